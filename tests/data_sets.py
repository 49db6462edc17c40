"""The data sets beside the repository, which may not be shipped: the one place that finds them, or skips."""

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"


def find_data_set(name=""):
    """Give a path under ../shared/data, or skip the test that asks for it."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"shared/data/{name}, which may not be shipped, is not beside the repository")
    return path
