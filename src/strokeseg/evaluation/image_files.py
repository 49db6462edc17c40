"""Read the files of images and masks: their endings, sizes, spacings and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from strokeseg.errors import TrainError
from strokeseg.reading.pictures.picture_file import PILLOW_FORMATS

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUME_ENDINGS = (".nii.gz", ".nii")

Spacing = tuple[float, float, float]
"""(slice, row, column), mm."""


def get_stem(name: str) -> str:
    """Return the name of a file without the ending of a picture or a volume."""
    ending = next((end for end in VOLUME_ENDINGS + PICTURE_ENDINGS if name.lower().endswith(end)), "")
    return name[: len(name) - len(ending)]


def is_volume(path: Path) -> bool:
    """Return whether a file is a NIfTI volume, by its name."""
    return path.name.lower().endswith(VOLUME_ENDINGS)


def read_mask_values(mask: Path) -> NDArray[Any]:
    """Read the values of a mask: (rows, columns) of a picture, (slices, rows, columns) of a volume."""
    label = f"{mask.parent.name}/{mask.name}"
    if is_volume(mask):
        return _read_volume(mask)
    try:
        with Image.open(mask, formats=PILLOW_FORMATS) as image:
            values = np.asarray(image)
    except (OSError, UnidentifiedImageError):
        raise TrainError(f"{label}: not a readable picture") from None
    if values.ndim == 3:
        if (values[..., :3] != values[..., :1]).any():
            raise TrainError(f"{label}: the mask is coloured", "Use grey masks: 0, and 255 (or 1) for blood.")
        values = values[..., 0]
    return values.astype(np.uint8) if values.dtype == bool else values


def _read_volume(path: Path) -> NDArray[Any]:
    """Read a NIfTI volume as (slices, rows, columns) with a Scan's directions: to the head, the back, the left."""
    import nibabel

    image = _load_nifti(path)
    try:
        values = np.asanyarray(image.dataobj)
        values = values.reshape(_three_axes(values.shape))
    except (OSError, EOFError, ValueError):
        raise TrainError(f"{path.parent.name}/{path.name}: not a complete single NIfTI volume") from None
    to_ras = nibabel.orientations.apply_orientation(values, nibabel.io_orientation(image.affine))
    return np.transpose(to_ras, (2, 1, 0))[:, ::-1, ::-1]


def _load_nifti(path: Path) -> Any:
    import nibabel

    try:
        return nibabel.load(path)
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError):
        raise TrainError(f"{path.parent.name}/{path.name}: not a readable NIfTI file") from None


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:3], 1)[:3]


def read_size(image: Path) -> tuple[int, ...]:
    """Read the size of an image from its header: (rows, columns) of a picture, (slices, rows, columns) of a volume."""
    if is_volume(image):
        import nibabel

        volume = _load_nifti(image)
        axes = nibabel.io_orientation(volume.affine)[:, 0].argsort()
        lengths = _three_axes(volume.shape)
        return tuple(int(lengths[axis]) for axis in axes[::-1])
    try:
        with Image.open(image, formats=PILLOW_FORMATS) as picture:
            return picture.height, picture.width
    except (OSError, UnidentifiedImageError):
        raise TrainError(f"{image.parent.name}/{image.name}: not a readable picture") from None


def read_volume_spacing_mm(volume: Path) -> Spacing:
    """Read a volume's spacing; slices along their normal, so that the product is the volume of a voxel."""
    import nibabel

    image = _load_nifti(volume)
    unit_mm = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    affine = np.asarray(image.affine, dtype=np.float64)[:3, :3] * unit_mm
    column, row, _ = affine.T[nibabel.io_orientation(image.affine)[:, 0].argsort()]
    row_mm, column_mm = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    return float(abs(np.linalg.det(affine)) / (row_mm * column_mm)), row_mm, column_mm


def format_shape(shape: tuple[int, ...]) -> str:
    """Format a shape as "512 x 512"."""
    return " x ".join(str(length) for length in shape)
