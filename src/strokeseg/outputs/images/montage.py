"""All slices of a scan in one image: small, in order, lesions outlined."""

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

    Each slice is cropped to the head and has its number, counted from 1 (yellow on slices with lesions), and the side
    letters, with a question mark if the sides are only assumed.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.

    Returns
    -------
    Image
        RGB image, about 1920 pixels wide.
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
    montage = Image.new("RGB", (across * (width + _GAP) - _GAP, down * (height + _GAP) - _GAP))
    uncertain = "" if are_sides_known(scan.remarks) else "?"
    for index in range(count):
        crop = (index, slice(top, bottom), slice(left, right))
        grey = apply_brain_window(planes.turn_upright(scan.hu[crop]))
        tile = Image.fromarray(grey).resize((width, height), Image.Resampling.BOX)
        lines = trace_outlines(scan, mask[crop], tile.size)
        tile = _draw_labels(draw_outlines(tile, lines), index + 1, uncertain, bool(lines))
        montage.paste(tile, (index % across * (width + _GAP), index // across * (height + _GAP)))
    return montage


def find_head_box(scan: Scan, mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Find the rows and columns that contain the head and all lesions.

    The head is the largest component that is not air after an opening by 9 mm, which removes the head rest and tubes.
    A margin restores what the opening removes of the nose.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.

    Returns
    -------
    tuple of (int, int, int, int)
        First row, end row, first column, end column; the ends are exclusive.
    """
    from scipy import ndimage

    step = max(1, min(scan.shape[1:]) // _COARSE_SIDE)
    spacing_mm = np.array(scan.planes.pixel_spacing_mm) * step
    air_hu = float(_AIR_HU)
    if scan.window is not None:  # the values of a picture end at its window
        air_hu = max(air_hu, scan.window[0] - 0.47 * scan.window[1])
    solid = (scan.hu[:, ::step, ::step] > air_hu).any(0)
    deep = ndimage.distance_transform_edt(np.pad(solid, 1), sampling=spacing_mm)[1:-1, 1:-1] > _THIN_MM
    components, count = ndimage.label(deep)
    head = components == np.bincount(components.ravel())[1:].argmax() + 1 if count else deep
    ends = []
    for axis, size in ((0, scan.shape[1]), (1, scan.shape[2])):
        margin = np.ceil((_THIN_MM + _MARGIN_MM) / spacing_mm[axis]) * step
        of_head = np.flatnonzero(head.any(1 - axis)) * step
        of_lesions = np.flatnonzero(mask.any((0, 2 - axis)))
        limits = [
            *(of_head[:1] - margin),
            *(of_head[-1:] + step + margin),
            *(of_lesions[:1] - 1),
            *(of_lesions[-1:] + 2),
        ]
        ends += [max(0, int(min(limits))), min(size, int(max(limits)))] if limits else [0, size]
    return ends[0], ends[1], ends[2], ends[3]


def _draw_labels(image: Image.Image, number: int, uncertain: str, is_positive: bool) -> Image.Image:
    draw, (width, height) = ImageDraw.Draw(image), image.size
    font = ImageFont.load_default(max(10.0, width / 16))
    edge = {"stroke_width": 1, "stroke_fill": (0, 0, 0)}
    margin = width / 40
    colour = OUTLINE_COLOUR if is_positive else LETTER_COLOUR
    right = width - margin
    draw.text((margin, margin), str(number), colour, font, "la", **edge)  # type: ignore[arg-type]
    draw.text((margin, height / 2), "R" + uncertain, LETTER_COLOUR, font, "lm", **edge)  # type: ignore[arg-type]
    draw.text((right, height / 2), "L" + uncertain, LETTER_COLOUR, font, "rm", **edge)  # type: ignore[arg-type]
    return image
