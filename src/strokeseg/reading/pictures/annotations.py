"""Annotations in pictures: writing and rulers beside the head, and colours on a grey slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.result import Remark

# Of 1,443 pictures of eleven data sets only three have six characters or more on a line, and all three contain writing.
_MIN_CHARACTERS = 6
_BLACK_SHARE, _BRIGHT_SHARE = 0.04, 0.5  # of white
_MIN_HEIGHT_PX, _MAX_HEIGHT_SHARE = 4, 0.06  # height of a character: pixels, and share of the picture's height
_MIN_AREA_PX = 5

_MIN_COLOURED_SHARE = 0.0005  # of the pixels


def check_annotations(stack: NDArray[Any], white: float, coloured_shares: list[float]) -> list[Remark]:
    """Warn of writing and of colours.

    Parameters
    ----------
    stack : ndarray, shape (slices, rows, columns)
        Grey levels.
    white : float
        The value of white.
    coloured_shares : list of float
        Share of coloured pixels of each picture.

    Returns
    -------
    list of Remark
        `burnt-in-text`, `coloured-overlay`.
    """
    remarks = []
    counts = [count_characters_on_line(plane, white) for plane in stack]
    with_writing = [index for index, count in enumerate(counts) if count >= _MIN_CHARACTERS]
    if with_writing:
        message = (
            f"Writing or a ruler beside the head on {len(with_writing)} pictures (up to {max(counts)} characters on a "
            "line). It is not tissue and may name the patient."
        )
        remarks.append(Remark(code="burnt-in-text", severity="warning", message=message, slices=with_writing))
    with_colour = [index for index, share in enumerate(coloured_shares) if share > _MIN_COLOURED_SHARE]
    if with_colour:
        message = (
            f"Coloured marks on {len(with_colour)} pictures (up to {max(coloured_shares):.2%} of the pixels). They "
            "were read as grey and may be mistaken for blood: give the pictures without them."
        )
        remarks.append(Remark(code="coloured-overlay", severity="warning", message=message, slices=with_colour))
    return remarks


def count_characters_on_line(plane: NDArray[Any], white: float) -> int:
    """Count bright components of a character's size, apart from the head, on the line that has most of them.

    Parameters
    ----------
    plane : ndarray, shape (rows, columns)
        Grey levels.
    white : float
        The value of white.
    """
    components, count = ndimage.label(plane > _BLACK_SHARE * white)
    if not count:
        return 0
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    head = ndimage.binary_dilation(components == sizes.argmax(), iterations=2)
    characters, _ = ndimage.label((plane > _BRIGHT_SHARE * white) & ~head, np.ones((3, 3)))
    areas = np.bincount(characters.ravel())
    max_height = _MAX_HEIGHT_SHARE * plane.shape[0]
    centres = np.sort(
        [
            (rows.start + rows.stop) / 2
            for number, (rows, columns) in enumerate(ndimage.find_objects(characters), start=1)
            if _MIN_HEIGHT_PX <= rows.stop - rows.start <= max_height
            and columns.stop - columns.start <= 3 * max_height
            and areas[number] >= _MIN_AREA_PX
        ]
    )
    reach = max(2, max_height / 6)
    on_line = np.searchsorted(centres, centres + reach, "right") - np.searchsorted(centres, centres - reach, "left")
    return int(on_line.max(initial=0))
