"""How tables and reports look in each format: plain text that fits the terminal, LaTeX, HTML."""
