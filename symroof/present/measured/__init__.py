"""How measured kernels and what is predicted of them look: tables and pictures."""
