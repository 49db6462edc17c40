"""A network by hand that every worker finds by the environment, and studies for it."""

import pytest

from phantoms import networks as handmade
from phantoms.cylinder_heads import SIZE, head, save_nifti


@pytest.fixture(autouse=True)
def networks(tmp_path, monkeypatch):
    """A folder of networks: `default` finds the bleed, `blind` answers nothing."""
    folder = tmp_path / "networks"
    handmade.save_network(folder, "default", handmade.make_bright_network(SIZE), SIZE)
    handmade.save_network(folder, "blind", handmade.make_constant_network(SIZE, -20), SIZE)
    monkeypatch.setenv("STROKESEG_MODELS", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def heads(tmp_path):
    """Three studies in a folder, with a bleed of 15, 20 and 25 mm."""
    folder = tmp_path / "heads"
    for number, radius in enumerate((15.0, 20.0, 25.0)):
        save_nifti(folder / f"head_{number}.nii.gz", head(radius))
    return folder
