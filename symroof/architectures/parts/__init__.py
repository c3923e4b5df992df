"""The parts of layers: token mixers and MLPs, each a few einsums, shared by all families."""
