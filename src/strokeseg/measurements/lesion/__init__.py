"""Measurements of one lesion."""
