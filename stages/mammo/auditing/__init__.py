"""Leaks, duplicates and shortcuts."""
