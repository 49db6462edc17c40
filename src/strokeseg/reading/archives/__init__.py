"""Zip and tar archives, read without unpacking."""
