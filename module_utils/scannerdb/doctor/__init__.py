"""What may be wrong with a host, tested one cause at a time, each with its hint."""
