"""Stops, floods, power cuts, load and fuzzing; `python -m stress` and `python -m stress.NAME` run them from tests/."""
