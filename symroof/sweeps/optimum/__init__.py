"""The best points without enumeration: boxes of points bounded by interval arithmetic, and certificates."""
