"""Restoring: what to restore from, the side database, its validation, the cutover and the way back."""
