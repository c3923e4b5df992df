"""The plane of two positive variables, divided by curves."""
