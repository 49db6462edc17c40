"""Data sets beside the repository, which may not be shipped."""

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"


def find_data_set(name=""):
    """Return a path under ../shared/data, or skip the test if it does not exist."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"shared/data/{name}, which may not be shipped, is missing beside the repository")
    return path
