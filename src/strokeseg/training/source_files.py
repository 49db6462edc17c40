"""Reading of the files of the built-in training sets: pictures, masks, boxes and index.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from strokeseg.errors import TrainError
from strokeseg.reading.pictures.picture_file import PILLOW_FORMATS
from strokeseg.training.sample import UNKNOWN

_GET_WHOLE_SET = "Get the whole data set."


def _read_grey(path: Path) -> NDArray[np.float32]:
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            return np.asarray(image.convert("L"), dtype=np.float32)
    except OSError:
        raise TrainError(f"{path.parent.name}/{path.name}: no readable picture", "Get the file again.") from None


def read_hu(path: Path, low: float, high: float) -> NDArray[np.int16]:
    """Read a picture whose grey levels 0 to 255 are the Hounsfield units ``low`` to ``high``."""
    return np.rint(_read_grey(path) / 255 * (high - low) + low).astype(np.int16)


def read_mask(path: Path, shape: tuple[int, ...], resample: bool = False) -> NDArray[np.uint8]:
    """Read a mask: white is blood, grey is unknown.

    Parameters
    ----------
    path : Path
        The picture.
    shape : tuple of int
        Rows and columns of the slice.
    resample : bool, default: False
        Sample a mask of another size at the pixels of the slice. Otherwise it is refused.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
        0 no blood, 1 blood, 2 unknown.

    Raises
    ------
    TrainError
        `train`, if the picture cannot be read or has another size.
    """
    values = _read_grey(path)
    if resample:
        rows, columns = (np.arange(new) * old // new for new, old in zip(shape, values.shape, strict=True))
        values = values[np.ix_(rows, columns)]
    if values.shape != shape:
        raise TrainError(f"{path.name}: mask of {values.shape} on an image of {shape}")
    return np.where(values > 191, 1, np.where(values > 64, UNKNOWN, 0)).astype(np.uint8)


def read_index(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a set's index.csv."""
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        raise TrainError(f"{folder.name}: no index.csv in it", "Get the whole data set, or leave it out.") from None


def find_picture(folder: Path, stem: str) -> Path:
    """Find the .png or .jpg of a name."""
    for end in (".png", ".jpg"):
        if (folder / (stem + end)).exists():
            return folder / (stem + end)
    raise TrainError(f"{folder.name}/{stem}: no .png or .jpg of that name")


def read_boxes(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Read boxes as a mask: 1 inside of them, 0 elsewhere.

    Parameters
    ----------
    path : Path
        A text file with a line for each box: class, centre x, centre y, width, height, as shares of the picture.
    shape : tuple of int
        Rows and columns of the slice.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
        The mask.

    Raises
    ------
    TrainError
        `train`, if the file is missing.
    """
    mask = np.zeros(shape, np.uint8)
    rows, columns = shape
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise TrainError(f"{path.parent.name}/{path.name}: no such file of boxes", _GET_WHOLE_SET) from None
    for line in lines:
        _, x, y, width, height = (float(part) for part in line.split()[:5])
        top, bottom = round((y - height / 2) * rows), round((y + height / 2) * rows)
        left, right = round((x - width / 2) * columns), round((x + width / 2) * columns)
        mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
    return mask


def mark_bright_inside(
    hu: NDArray[np.int16], mask: NDArray[np.uint8], limit_hu: float = 50, margin: int = 4
) -> NDArray[np.bool_]:
    """Mark bright components inside the skull outside of the mask: in an incomplete set they may be blood.

    Parameters
    ----------
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units.
    mask : ndarray of uint8, shape (rows, columns)
        0 no blood, 1 blood, 2 unknown.
    limit_hu : float, default: 50
        Pixels above this limit are bright, after a blur of 1.2 pixels.
    margin : int, default: 4
        Pixels along the skull that are left out.

    Returns
    -------
    ndarray of bool, shape (rows, columns)
        The components of more than 20 pixels.
    """
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), 1.2)
    inside = mark_inside_skull(smooth)
    if margin:
        inside = ndimage.binary_erosion(inside, iterations=margin)
    bright = (smooth > limit_hu) & inside & ~ndimage.binary_dilation(mask == 1, iterations=3)
    labels, _ = ndimage.label(bright)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes > 20)[labels])


def mark_inside_skull(smooth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark the inside of the skull in blurred Hounsfield units, (rows, columns)."""
    skull = ndimage.binary_closing(smooth > 76, iterations=3)
    return np.asarray(ndimage.binary_fill_holes(skull) & ~skull)
