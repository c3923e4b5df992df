"""What requests see: promises, a device that they share, a memory that they fill."""
