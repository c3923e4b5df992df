"""Operators as einsums over named axes: tensors, operators, graphs, and the catalogue."""
