"""Stacks of techniques: what each of them brings."""
