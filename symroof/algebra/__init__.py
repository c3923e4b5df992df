"""Exact algebra of one variable: polynomials, signs, roots, limits, branches; depends only on sympy."""
