"""What the database should be, what it is, and the difference."""
