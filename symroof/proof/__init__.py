"""Certificates: claims about the sign of a polynomial for all values of its symbols, proved or refuted."""
