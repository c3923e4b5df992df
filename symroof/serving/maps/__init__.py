"""Maps over two variables: what is decided at every point, its regions and their borders."""
