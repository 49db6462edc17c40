import pytest

from phantoms import training_sets


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    training_sets.write_datasets(root)
    return root
