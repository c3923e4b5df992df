"""The roofline: attainable performance, bound and time, as formulas and as numbers."""
