"""All slices of a scan in one picture, small, in order, with the bleeding outlined."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from strokeseg.outputs.images.slice_images import (
    LETTER_COLOUR,
    OUTLINE_COLOUR,
    apply_brain_window,
    draw_outlines,
    trace_outlines,
)
from strokeseg.result import are_sides_known
from strokeseg.scan import Scan

_WIDTH, _ASPECT = 1920, 4 / 3
_MAX_TILE, _MIN_TILE = 320, 96
_AIR_HU = -300
_COARSE_SIDE, _THIN_MM, _MARGIN_MM = 128, 9.0, 7.0
_GAP = 2


def draw_montage(scan: Scan, mask: NDArray[np.bool_]) -> Image.Image:
    """Draw every slice in the brain window, the lowest first, row by row.

    Each is cut to the head, numbered from 1 (yellow where there is bleeding) and has the letters of its sides, with a
    question mark where these are only assumed.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        On the scan's grid.

    Returns
    -------
    Image
        RGB picture, about 1920 pixels wide.
    """
    top, bottom, left, right = find_head_box(scan, mask)
    planes = scan.planes
    height_mm = (bottom - top) * planes.pixel_spacing_mm[0]
    width_mm = (right - left) * planes.pixel_spacing_mm[1]
    count = len(mask)
    across = min(count, max(1, round(math.sqrt(count * _ASPECT * height_mm / width_mm))))
    width = int(np.clip(_WIDTH // across, _MIN_TILE, _MAX_TILE))
    height = max(1, round(width * height_mm / width_mm))
    down = -(-count // across)
    whole = Image.new("RGB", (across * (width + _GAP) - _GAP, down * (height + _GAP) - _GAP))
    doubt = "" if are_sides_known(scan.remarks) else "?"
    for index in range(count):
        cut = (index, slice(top, bottom), slice(left, right))
        tile = Image.fromarray(apply_brain_window(planes.turn_upright(scan.hu[cut]))).resize(
            (width, height), Image.Resampling.BOX
        )
        lines = trace_outlines(scan, mask[cut], tile.size)
        image = _draw_labels(draw_outlines(tile, lines), index + 1, doubt, bool(lines))
        whole.paste(image, (index % across * (width + _GAP), index // across * (height + _GAP)))
    return whole


def find_head_box(scan: Scan, mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Find the rows (first, end) and columns (first, end) of the head and of all bleeding.

    The head is the largest part of what is no air after an opening by 9 mm, in which the head rest and a tube vanish;
    a margin gives back what that takes of the nose.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask.
    """
    from scipy import ndimage

    step = max(1, min(scan.shape[1:]) // _COARSE_SIDE)
    spacing_mm = np.array(scan.planes.pixel_spacing_mm) * step
    air_hu = float(_AIR_HU)
    if scan.window is not None:  # a picture's values end at its window
        air_hu = max(air_hu, scan.window[0] - 0.47 * scan.window[1])
    shown = (scan.hu[:, ::step, ::step] > air_hu).any(0)
    deep = ndimage.distance_transform_edt(np.pad(shown, 1), sampling=spacing_mm)[1:-1, 1:-1] > _THIN_MM
    parts, count = ndimage.label(deep)
    head = parts == np.bincount(parts.ravel())[1:].argmax() + 1 if count else deep
    ends = []
    for axis, size in ((0, scan.shape[1]), (1, scan.shape[2])):
        around = np.ceil((_THIN_MM + _MARGIN_MM) / spacing_mm[axis]) * step
        places = np.flatnonzero(head.any(1 - axis)) * step
        blood = np.flatnonzero(mask.any((0, 2 - axis)))
        found = [*(places[:1] - around), *(places[-1:] + step + around), *(blood[:1] - 1), *(blood[-1:] + 2)]
        ends += [max(0, int(min(found))), min(size, int(max(found)))] if found else [0, size]
    return ends[0], ends[1], ends[2], ends[3]


def _draw_labels(image: Image.Image, number: int, doubt: str, bleeding: bool) -> Image.Image:
    draw, (width, height) = ImageDraw.Draw(image), image.size
    font = ImageFont.load_default(max(10.0, width / 16))
    edge = {"stroke_width": 1, "stroke_fill": (0, 0, 0)}
    margin = width / 40
    shade = OUTLINE_COLOUR if bleeding else LETTER_COLOUR
    draw.text((margin, margin), str(number), shade, font, "la", **edge)  # type: ignore[arg-type]
    draw.text((margin, height / 2), "R" + doubt, LETTER_COLOUR, font, "lm", **edge)  # type: ignore[arg-type]
    draw.text((width - margin, height / 2), "L" + doubt, LETTER_COLOUR, font, "rm", **edge)  # type: ignore[arg-type]
    return image
