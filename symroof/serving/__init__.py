"""Serving theory: from the step to the service; one file, one function, one answer each."""
