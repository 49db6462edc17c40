"""Handmade models that every worker finds through the environment, and studies for them."""

import pytest

from phantoms.cylinder_heads import SIZE, head, save_nifti
from phantoms.networks import make_bright_network, make_constant_network, save_network


@pytest.fixture(autouse=True)
def networks(tmp_path, monkeypatch):
    """A folder of models: `default` finds the lesion, `blind` finds nothing."""
    folder = tmp_path / "networks"
    save_network(folder, "default", make_bright_network(SIZE), SIZE)
    save_network(folder, "blind", make_constant_network(SIZE, -20), SIZE)
    monkeypatch.setenv("STROKESEG_MODELS", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def heads(tmp_path):
    """Three studies in a folder, with a lesion of 15, 20 and 25 mm radius."""
    folder = tmp_path / "heads"
    for number, radius in enumerate((15.0, 20.0, 25.0)):
        save_nifti(folder / f"head_{number}.nii.gz", head(radius))
    return folder
