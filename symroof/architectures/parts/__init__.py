"""The parts that layers are made of: mixers of tokens and MLPs, each a few einsums, shared by all families."""
