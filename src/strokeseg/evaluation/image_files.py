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

Bools = NDArray[np.bool_]
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

    image = load_nifti(path)
    try:
        values = np.asanyarray(image.dataobj)
        values = values.reshape(three_axes(values.shape))
    except (OSError, EOFError, ValueError):
        raise TrainError(f"{path.parent.name}/{path.name}: not a complete single NIfTI volume") from None
    to_ras = nibabel.orientations.apply_orientation(values, nibabel.io_orientation(image.affine))
    return np.transpose(to_ras, (2, 1, 0))[:, ::-1, ::-1]


def load_nifti(path: Path) -> Any:
    """Load a NIfTI file with nibabel; raises TrainError if it cannot be read."""
    import nibabel

    try:
        return nibabel.load(path)
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError):
        raise TrainError(f"{path.parent.name}/{path.name}: not a readable NIfTI file") from None


def three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the first three lengths of a shape, 1 for a missing third."""
    return (*shape[:3], 1)[:3]


def read_size(image: Path) -> tuple[int, ...]:
    """Read the size of an image from its header: (rows, columns) of a picture, (slices, rows, columns) of a volume."""
    if is_volume(image):
        import nibabel

        volume = load_nifti(image)
        axes = nibabel.io_orientation(volume.affine)[:, 0].argsort()
        lengths = three_axes(volume.shape)
        return tuple(int(lengths[axis]) for axis in axes[::-1])
    try:
        with Image.open(image, formats=PILLOW_FORMATS) as picture:
            return picture.height, picture.width
    except (OSError, UnidentifiedImageError):
        raise TrainError(f"{image.parent.name}/{image.name}: not a readable picture") from None


def read_volume_spacing_mm(volume: Path) -> Spacing:
    """Read a volume's spacing; slices along their normal, so that the product is the volume of a voxel."""
    import nibabel

    image = load_nifti(volume)
    affine = read_affine_mm(image)[:3, :3]
    column, row, _ = affine.T[nibabel.io_orientation(image.affine)[:, 0].argsort()]
    row_mm, column_mm = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    return float(abs(np.linalg.det(affine)) / (row_mm * column_mm)), row_mm, column_mm


def read_affine_mm(image: Any) -> NDArray[np.float64]:
    """Return the affine of a NIfTI image to RAS mm, (4, 4)."""
    unit_mm = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    return np.diag([unit_mm, unit_mm, unit_mm, 1.0]) @ np.asarray(image.affine, dtype=np.float64)


def format_shape(shape: tuple[int, ...]) -> str:
    """Format a shape as "512 x 512"."""
    return " x ".join(str(length) for length in shape)


def binarize(
    values: NDArray[Any], label: str, ignore: int | None = None, labels: tuple[int, ...] | None = None
) -> tuple[Bools, Bools]:
    """Convert the values of a mask to blood and known pixels.

    Parameters
    ----------
    values : ndarray, any shape
        Values of a mask.
    label : str
        The file, for messages.
    ignore : int, optional
        Value for unknown pixels.
    labels : tuple of int, optional
        Values that are blood. By default the mask must be binary.

    Returns
    -------
    tuple of (ndarray of bool, ndarray of bool)
        Annotated blood, and where the truth is known.

    Raises
    ------
    TrainError
        `train`, if the mask is not binary (without labels).
    """
    known = np.ones(values.shape, dtype=bool) if ignore is None else values != ignore
    if labels is not None:
        return np.isin(values, labels) & known, known
    unique = np.unique(values[known])
    if not (np.isin(unique, (0, 255)).all() or np.isin(unique, (0, 1)).all()):
        raise _not_binary(label, unique)
    return (values > 0) & known, known


def _not_binary(label: str, unique: NDArray[Any]) -> TrainError:
    others = [f"{value:g}" for value in unique if value not in (0, 255)]
    shown = ", ".join(others[:3]) + (" ..." if len(others) > 3 else "")
    if "128" in others:
        remedy = "If 128 marks unknown pixels, ignore this value: --ignore 128."
    elif len(others) > 3:
        remedy = "Save masks with lossless compression (PNG, not JPEG), as 0 and 255."
    else:
        remedy = "Use masks of 0 and 255 (or 0 and 1); merge the classes of blood into one."
    return TrainError(f"{label}: the mask is not binary, it holds {shown} besides 0 and 255", remedy)
