"""Questions about a step: one file, one function, one answer each."""
