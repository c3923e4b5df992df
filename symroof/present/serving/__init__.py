"""How the answers of serving theory look."""
