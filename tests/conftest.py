from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data():
    """The folder of the data sets, which may not be shipped."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("shared/data, which may not be shipped, is not beside the repository")
    return folder
