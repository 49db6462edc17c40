"""The lesion of the analytic head keeps volume and position in random combinations of what scanners and exports do.

The truth is the ellipsoid's own formula. What is measured is what anyone would: pixels of its density, times area,
times weight.
"""

from copy import deepcopy
from dataclasses import dataclass

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantoms import head_series
from phantoms.head_series import GDCM_SYNTAXES, LESION_CENTRE_MM, LESION_ML, Geometry
from strokeseg.outputs.volumes import nifti
from strokeseg.outputs.volumes.regular_grid import make_regular
from strokeseg.reading import read_one

SYNTAXES = ["explicit", "implicit", "rle", "no-preamble", "no-meta", *GDCM_SYNTAXES]
RESCALES = [
    (1.0, -1024.0, False),
    (1.0, 0.0, True),
    (0.5, -1000.0, False),
    (1.0, -8192.0, False),
    (0.25, -1024.0, False),
]
PIXELS = {"shape": (132, 116), "spacing_mm": (1.5, 1.45)}


@dataclass(frozen=True)
class TurnedGeometry(Geometry):
    """Geometry of a head rotated about its long axis too: the planes are oblique to the patient."""

    turn_deg: float = 0.0

    def _rotate(self, axis):
        angle = np.radians(self.turn_deg)
        cosine, sine = np.cos(angle), np.sin(angle)
        return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ axis

    @property
    def row_cosine(self):
        return self._rotate(super().row_cosine)

    @property
    def column_cosine(self):
        return self._rotate(super().column_cosine)


def make_positions(spacing, step):
    """Return the slices' positions: even, thin below and thick above, or with missing slices beside the lesion."""
    even = np.arange(-56.0, 62.0, step)
    if spacing == "uneven":
        return (*np.arange(-56.0, 4.0, 2.0), *np.arange(4.0, 62.0, 3.5))
    if spacing == "missing":  # the lesion reaches from -12 to 30, and by 8 more where the gantry is tilted
        return tuple(np.delete(even, np.argmin(np.abs(even + 36))))
    return tuple(even)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    tilt_deg=st.floats(-30, 30),
    turn_deg=st.sampled_from([0.0, -9.0, 21.0]),
    spacing=st.sampled_from(["even", "uneven", "missing", "duplicated"]),
    step=st.sampled_from([2.0, 2.5, 3.0]),
    row_sign=st.sampled_from([1, -1]),
    column_sign=st.sampled_from([1, -1]),
    syntax=st.sampled_from(SYNTAXES),
    rescale=st.sampled_from(RESCALES),
    seed=st.integers(0, 2**16),
)
@pytest.mark.slow
def test_the_lesion_keeps_its_volume_and_position(
    tmp_path_factory, tilt_deg, turn_deg, spacing, step, row_sign, column_sign, syntax, rescale, seed
):
    geometry = TurnedGeometry(
        make_positions(spacing, step), tilt_deg, row_sign, column_sign, turn_deg=turn_deg, **PIXELS
    )
    slope, intercept, signed = rescale
    slices = head_series.make_datasets(geometry, slope=slope, intercept=intercept, signed=signed)
    if spacing == "duplicated":
        slices += deepcopy(slices[3:6])
    order = np.random.default_rng(seed).permutation(len(slices))
    scan = read_one(head_series.write_series(tmp_path_factory.mktemp("series"), slices, syntax, order))
    volume, centroid = head_series.measure_lesion(scan)
    assert volume == pytest.approx(LESION_ML, rel=0.01)
    along = centroid - LESION_CENTRE_MM
    planes = scan.planes
    assert abs(along @ planes.row_cosine) < planes.pixel_spacing_mm[1] / 2
    assert abs(along @ planes.column_cosine) < planes.pixel_spacing_mm[0] / 2
    assert abs(along @ planes.normal) < np.median(planes.gaps_mm) / 2
    assert planes.tilt_deg == pytest.approx(abs(tilt_deg), abs=0.1)
    codes = {remark.code for remark in scan.remarks}
    assert ("missing-slices" in codes) == (spacing == "missing")
    assert ("duplicate-slices" in codes) == (spacing == "duplicated")
    assert ("uneven-spacing" in codes) == (spacing == "uneven")
    assert not codes & {"contrast-medium", "sharp-kernel", "metal", "motion", "hounsfield-offset", "left-out"}


@pytest.mark.parametrize("row_sign", [1, -1])
@pytest.mark.parametrize("turn_deg", [0.0, 21.0])
def test_our_own_nifti_gives_the_same_mask_at_the_same_places(tmp_path, row_sign, turn_deg):
    geometry = TurnedGeometry(make_positions("even", 3.0), 0.0, row_sign, 1, turn_deg=turn_deg, **PIXELS)
    scan = read_one(head_series.write_series(tmp_path / "series", head_series.make_datasets(geometry)))
    mask = (scan.hu > 50) & (scan.hu < 100)
    nifti.save(tmp_path, scan, make_regular(scan, mask.astype(np.int32)))
    again = read_one(tmp_path / "ct.nii.gz")
    assert np.array_equal((again.hu > 50) & (again.hu < 100), mask)
    corners = [[0, 0, 0], [scan.shape[0] - 1, scan.shape[1] - 1, scan.shape[2] - 1]]
    assert again.planes.to_lps_mm(corners) == pytest.approx(scan.planes.to_lps_mm(corners), abs=0.01)
    image = nibabel.load(tmp_path / "mask.nii.gz")
    theirs = nibabel.affines.apply_affine(image.affine, np.argwhere(image.get_fdata())) * [-1, -1, 1]
    ours = scan.planes.to_lps_mm(np.argwhere(mask))
    assert np.sort(theirs.round(2), axis=0) == pytest.approx(np.sort(ours.round(2), axis=0), abs=0.02)


@pytest.mark.parametrize("spacing", ["even", "uneven"])
@pytest.mark.parametrize("tilt_deg", [0.0, 22.0])
def test_a_resampled_nifti_keeps_the_lesions_volume_and_position(tmp_path, spacing, tilt_deg):
    geometry = TurnedGeometry(make_positions(spacing, 3.0), tilt_deg, **PIXELS)
    scan = read_one(head_series.write_series(tmp_path / "series", head_series.make_datasets(geometry)))
    mask = (scan.hu > 50) & (scan.hu < 100)
    nifti.save(tmp_path, scan, make_regular(scan, mask.astype(np.int32)))
    image = nibabel.load(tmp_path / "mask.nii.gz")
    marked = np.argwhere(image.get_fdata())
    volume = len(marked) * abs(np.linalg.det(image.affine)) / 1000
    centroid = nibabel.affines.apply_affine(image.affine, marked.mean(axis=0)) * [-1, -1, 1]
    assert volume == pytest.approx(LESION_ML, rel=0.015)
    assert np.abs(centroid - LESION_CENTRE_MM).max() < 1.0
