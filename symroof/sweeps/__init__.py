"""Sweeps: the formulas of many models, devices and inputs, evaluated at memory speed."""
