"""Small heads by geometry, as files that a batch takes."""

import nibabel
import numpy as np

SIZE = 64
SPACING_MM = (5.0, 3.0, 3.0)


def head(bleed_mm=18.0):
    """An elliptic skull around brain of 35 HU, a cylinder of 65 HU of this radius in two of four slices."""
    rows, columns = (np.mgrid[:64, :64] - 31.5) * SPACING_MM[1]
    apart = np.hypot(rows / 85, columns / 70)
    hu = np.full((4, 64, 64), -1000, np.int16)
    hu[:, apart <= 1] = 1000
    hu[:, apart <= 0.9] = 35
    hu[1:3, np.hypot(rows - 10, columns - 20) <= bleed_mm] = 65
    return hu


def save_nifti(path, hu):
    path.parent.mkdir(parents=True, exist_ok=True)
    slice_mm, row_mm, column_mm = SPACING_MM
    affine = np.diag([-column_mm, -row_mm, slice_mm, 1.0])
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine), path)
    return path
