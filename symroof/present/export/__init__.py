"""Formulas of a step in other languages."""
