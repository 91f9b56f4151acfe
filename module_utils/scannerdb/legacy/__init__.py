"""What the old shell scripts left on a host. Pure: text in, text out."""
