"""What was drawn into a picture: letters and rulers beside the head, and colours on a grey slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.result import Remark

# Of 1,443 pictures of eleven sets only three have six signs on a line or more, and all three bear writing.
_MIN_CHARACTERS = 6
_BLACK_SHARE, _BRIGHT_SHARE = 0.04, 0.5  # of white
_MIN_HEIGHT_PX, _MAX_HEIGHT_SHARE = 4, 0.06  # a sign's height: pixels, and share of the picture's
_MIN_AREA_PX = 5

_MIN_COLOURED_SHARE = 0.0005  # of the pixels


def check_annotations(stack: NDArray[Any], white: float, coloured: list[float]) -> list[Remark]:
    """Warn of writing and of colours.

    Parameters
    ----------
    stack : ndarray, shape (slices, rows, columns)
        Grey.
    white : float
        The value of white.
    coloured : list of float
        (slices,), share of each picture's pixels that have a colour.
    """
    found = []
    lines = [count_characters_on_line(plane, white) for plane in stack]
    written = [index for index, count in enumerate(lines) if count >= _MIN_CHARACTERS]
    if written:
        message = (
            f"Writing or a ruler beside the head on {len(written)} pictures (up to {max(lines)} signs on a line). It "
            "is no tissue, and may name the patient."
        )
        found.append(Remark(code="burnt-in-text", severity="warning", message=message, slices=written))
    drawn = [index for index, share in enumerate(coloured) if share > _MIN_COLOURED_SHARE]
    if drawn:
        message = (
            f"Something is drawn in colour on {len(drawn)} pictures (up to {max(coloured):.2%} of the pixels). It was "
            "read as grey and may be taken for blood: give the pictures without it."
        )
        found.append(Remark(code="coloured-overlay", severity="warning", message=message, slices=drawn))
    return found


def count_characters_on_line(plane: NDArray[Any], white: float) -> int:
    """Count the bright pieces of a letter's size, apart from the head, that stand on one line: the most of any line."""
    pieces, count = ndimage.label(plane > _BLACK_SHARE * white)
    if not count:
        return 0
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    head = ndimage.binary_dilation(pieces == sizes.argmax(), iterations=2)
    signs, _ = ndimage.label((plane > _BRIGHT_SHARE * white) & ~head, np.ones((3, 3)))
    areas = np.bincount(signs.ravel())
    highest = _MAX_HEIGHT_SHARE * plane.shape[0]
    middles = np.sort(
        [
            (rows.start + rows.stop) / 2
            for number, (rows, columns) in enumerate(ndimage.find_objects(signs), start=1)
            if _MIN_HEIGHT_PX <= rows.stop - rows.start <= highest
            and columns.stop - columns.start <= 3 * highest
            and areas[number] >= _MIN_AREA_PX
        ]
    )
    near = max(2, highest / 6)
    on_line = np.searchsorted(middles, middles + near, "right") - np.searchsorted(middles, middles - near, "left")
    return int(on_line.max(initial=0))
