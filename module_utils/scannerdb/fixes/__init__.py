"""Mending what a check found: plan, apply, journal, undo."""
