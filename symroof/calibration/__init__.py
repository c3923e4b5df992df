"""Calibration: reads measured kernels, fits forms to them, and validates predictions against measurements."""
