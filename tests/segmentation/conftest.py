import pytest

from phantoms import networks
from strokeseg.segmentation import models

SIZE = 64


@pytest.fixture
def models_folder(tmp_path, monkeypatch):
    """Folder with one model that marks pixels of 50 HU and more."""
    folder = tmp_path / "models"
    networks.save_network(folder, "threshold", networks.make_bright_network(SIZE), SIZE)
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(folder))
    return folder
