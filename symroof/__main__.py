"""`python -m symroof`."""

from symroof.cli.main import main

main()
