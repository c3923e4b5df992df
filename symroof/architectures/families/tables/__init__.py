"""Tables of further families of decoders, by what sets their layers apart."""
