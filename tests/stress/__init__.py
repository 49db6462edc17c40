"""Kills, floods, load and fuzzing, each runnable as `python -m stress.NAME` from tests/."""
