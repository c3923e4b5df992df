"""Any torch module as a step: exported with symbolic sizes, and read operator by operator."""
