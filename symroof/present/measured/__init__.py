"""Tables and pictures of measured kernels and their predictions."""
