"""Data sets and cases beside the repository, which may not be shipped."""

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"
CASES = Path(__file__).parents[2] / "shared" / "cases"


def find_data_set(name=""):
    """Return a path under ../shared/data, or skip the test if it does not exist."""
    return _find(DATA, name)


def find_case(name):
    """Return a path under ../shared/cases, or skip the test if it does not exist."""
    return _find(CASES, name)


def _find(folder, name):
    path = folder / name
    if not path.exists():
        pytest.skip(f"shared/{folder.name}/{name}, which may not be shipped, is missing beside the repository")
    return path
