"""Formulas as fast functions of arrays, and labelled sweeps over them."""
