"""Exact algebra of one variable: polynomials, signs, roots, limits, branches; it knows sympy alone."""
