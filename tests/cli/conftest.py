"""A geometric head and a handmade network that finds its lesion, so that the expected output is known."""

import nibabel
import numpy as np
import pytest

from phantoms import networks
from strokeseg.cli import main

SIZE = 96
SPACING_MM = (5.0, 1.5, 1.5)
SLICES, SIDE = 12, 128
LESION_RADIUS_MM, LESION_SLICES = 18.0, (4, 7)
LESION_ML = np.pi * LESION_RADIUS_MM**2 * SPACING_MM[0] * 4 / 1000


def head(lesion=True):
    """An elliptic skull around brain of 35 HU, a cylinder of 65 HU in slices 4 to 7; (slices, rows, columns)."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5) * SPACING_MM[1]
    apart = np.hypot(rows / 85, columns / 70)
    hu = np.full((SLICES, SIDE, SIDE), -1000, np.int16)
    hu[:, apart <= 1] = 1000
    hu[:, apart <= 0.9] = 35
    if lesion:
        hu[LESION_SLICES[0] : LESION_SLICES[1] + 1, np.hypot(rows - 10, columns - 20) <= LESION_RADIUS_MM] = 65
    return hu


def save_nifti(path, hu):
    slice_mm, row_mm, column_mm = SPACING_MM
    # Rows run to the back and columns to the left: both against RAS.
    affine = np.diag([-column_mm, -row_mm, slice_mm, 1.0])
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine), path)
    return path


def make_network():
    """Logits high where the input lies between 0.3 and 0.95 (52 to 78 HU), thin borders opened away."""
    window = {"kernel_shape": [5, 5], "pads": [2] * 4}
    nodes = [
        ("Sub", ["image", "low"], "above", {}),
        ("Sub", ["high", "image"], "below", {}),
        ("Min", ["above", "below"], "inside", {}),
        ("Neg", ["inside"], "outside", {}),
        ("MaxPool", ["outside"], "grown", window),
        ("Neg", ["grown"], "eroded", {}),
        ("MaxPool", ["eroded"], "opened", window),
        ("Mul", ["opened", "k"], "logits", {}),
    ]
    return networks.make_network(SIZE, nodes, {"low": 0.3, "high": 0.95, "k": 40.0})


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """A folder of networks with the one by hand as `default`, and an empty current directory."""
    folder = tmp_path / "networks"
    networks.save_network(folder, "default", make_network(), SIZE, architecture="a band of [grey]")
    monkeypatch.setenv("STROKESEG_MODELS", str(folder))
    monkeypatch.delenv("STROKESEG_DEBUG", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


@pytest.fixture
def bleeding(tmp_path):
    return save_nifti(tmp_path / "bleeding.nii.gz", head())


@pytest.fixture
def healthy(tmp_path):
    return save_nifti(tmp_path / "healthy.nii.gz", head(lesion=False))


@pytest.fixture
def run(capfd):
    """Run a command line in this process: (exit code, stdout, stderr)."""

    def call(*arguments):
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return (code, *capfd.readouterr())

    return call
