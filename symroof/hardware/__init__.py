"""Devices as data: every figure with its source and date."""
