"""Calibration: measured kernels read, forms fitted to them, predictions held against what was measured."""
