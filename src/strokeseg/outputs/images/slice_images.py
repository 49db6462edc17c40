"""Slices as pictures: face up, the patient's left on the right, the bleeding outlined."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from strokeseg.imaging.components import Labels
from strokeseg.result import are_sides_known
from strokeseg.scan import Scan

BRAIN_WINDOW = (40.0, 80.0)
"""(centre, width), Hounsfield units: the brain window."""

OUTLINE_COLOUR = (255, 208, 46)
MAX_REPORT_SLICES = 24
_MAX_KEY_SLICES = 5
_SLICES_WITHOUT_LESIONS = 6
_MIN_SIDE, _MAX_SIDE = 512, 2048
LETTER_COLOUR = (200, 208, 216)
# Just above 0: the line passes outside of every marked pixel, at most half a pixel away, and cuts no corner of it.
_CONTOUR_LEVEL = 0.02

Polyline = NDArray[np.float64]


@dataclass(frozen=True)
class SliceImage:
    """One slice of the report.

    Parameters
    ----------
    index : int
        The slice's index, inferior first.
    jpeg : bytes
        Grey, face up, the patient's left on the right, without outline.
    size : tuple of (int, int)
        (width, height) of the picture, pixels.
    outlines : tuple of Polyline
        Closed lines around the bleeding, each (n, 2), (x, y) in the picture's pixels from its top left corner.
    """

    index: int
    jpeg: bytes
    size: tuple[int, int]
    outlines: tuple[Polyline, ...]


@dataclass(frozen=True)
class ReportSlices:
    """The slices of the report, and of how many with bleeding they are."""

    slices: tuple[SliceImage, ...]
    positive_count: int


def choose_key_slices(labels: Labels) -> list[int]:
    """Choose the slices that show each bleed best: for each of the five largest lesions the one on which it is largest.

    Lesions that are largest on the same slice share it. Without any lesion it is the middle slice.

    Parameters
    ----------
    labels : Labels
        (slices, rows, columns), 1 is the largest lesion.

    Returns
    -------
    list of int
        Indices, the largest lesion's first, each once.
    """
    count = int(labels.max(initial=0))
    lesions = range(1, min(count, _MAX_KEY_SLICES) + 1)
    chosen = [int(np.argmax([np.count_nonzero(plane == lesion) for plane in labels])) for lesion in lesions]
    return list(dict.fromkeys(chosen or [len(labels) // 2]))


def draw_report_slices(scan: Scan, mask: NDArray[np.bool_]) -> ReportSlices:
    """Draw the slices that the report shows: those with bleeding, at most 24; without any, six spread over the scan."""
    positive = np.flatnonzero(mask.any((1, 2)))
    if positive.size:
        chosen = positive[_choose_evenly(positive.size, MAX_REPORT_SLICES)]
    else:
        # The middles of equal parts: the ends of a whole scan show little brain.
        parts = min(len(mask), _SLICES_WITHOUT_LESIONS)
        chosen = ((np.arange(parts) + 0.5) * len(mask) / parts).astype(int)
    pictures = []
    for index in chosen:
        image = Image.fromarray(_render_slice(scan, int(index)))
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=85, optimize=True)
        lines = trace_outlines(scan, mask[index], image.size)
        pictures.append(SliceImage(int(index), packed.getvalue(), image.size, lines))
    return ReportSlices(tuple(pictures), int(positive.size))


def draw_key_slice(scan: Scan, mask: NDArray[np.bool_], index: int) -> Image.Image:
    """Draw one slice with the outline of its bleeding, the letters of its sides, and its number counted from 1.

    Sides that are only assumed carry a question mark.

    Returns
    -------
    Image
        RGB picture, at least 512 pixels a side, square pixels.
    """
    grey = Image.fromarray(_render_slice(scan, index))
    image = draw_outlines(grey, trace_outlines(scan, mask[index], grey.size))
    draw, (width, height) = ImageDraw.Draw(image), image.size
    font, small = ImageFont.load_default(height / 24), ImageFont.load_default(height / 36)
    margin, edge = height / 40, {"stroke_width": 2, "stroke_fill": (0, 0, 0)}
    doubt = "" if are_sides_known(scan.remarks) else "?"
    draw.text((margin, height * 0.3), "R" + doubt, LETTER_COLOUR, font, "lm", **edge)  # type: ignore[arg-type]
    draw.text((width - margin, height * 0.3), "L" + doubt, LETTER_COLOUR, font, "rm", **edge)  # type: ignore[arg-type]
    caption = f"slice {index + 1} of {len(mask)}"
    draw.text((margin, height - margin), caption, LETTER_COLOUR, small, "ls", **edge)  # type: ignore[arg-type]
    return image


def draw_outlines(
    picture: Image.Image, lines: Sequence[Polyline], colour: tuple[int, int, int] = OUTLINE_COLOUR, half_pixels: int = 2
) -> Image.Image:
    """Draw lines, (n, 2) each, (x, y) from the top left corner, so many half pixels wide; gives an RGB picture."""
    image = picture.convert("RGB")
    if not lines:
        return image
    # Drawn at twice the size and averaged: a smooth line.
    line = Image.new("L", (picture.width * 2, picture.height * 2))
    for points in lines:
        ImageDraw.Draw(line).line([(x * 2 - 0.5, y * 2 - 0.5) for x, y in points], fill=255, width=half_pixels)
    image.paste(colour, (0, 0, *picture.size), line.resize(picture.size, Image.Resampling.BOX))
    return image


def apply_brain_window(hu: NDArray[Any]) -> NDArray[np.uint8]:
    """Give Hounsfield units as the grey levels of the brain window."""
    centre, width = BRAIN_WINDOW
    level = (np.asarray(hu, dtype=np.float32) - np.float32(centre - width / 2)) * np.float32(255 / width)
    return np.clip(level + np.float32(0.5), 0, 255).astype(np.uint8)


def _choose_evenly(count: int, most: int) -> NDArray[np.int64]:
    """Give up to ``most`` indices spread evenly over ``count``, both ends among them."""
    return np.unique(np.rint(np.linspace(0, count - 1, min(count, most))).astype(np.int64))


def _compute_image_size(scan: Scan) -> tuple[int, int]:
    """Return (width, height) of a slice's picture: square pixels, sides of 512 to 2048, the upper bound first."""
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    finest = min(row_mm, column_mm)
    height, width = scan.shape[1] * row_mm / finest, scan.shape[2] * column_mm / finest
    scale = min(max(1.0, _MIN_SIDE / min(height, width)), _MAX_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _render_slice(scan: Scan, index: int) -> NDArray[np.uint8]:
    """Return one slice in the brain window as an upright picture, uint8 (height, width)."""
    image = Image.fromarray(apply_brain_window(scan.planes.turn_upright(scan.hu[index])))
    size = _compute_image_size(scan)
    return np.asarray(image if size == image.size else image.resize(size, Image.Resampling.BICUBIC))


def trace_outlines(scan: Scan, plane: NDArray[np.bool_], size: tuple[int, int]) -> tuple[Polyline, ...]:
    """Return the closed lines around a slice's mask, (n, 2) each, (x, y) in a picture of the size (width, height)."""
    from skimage.measure import find_contours

    if not plane.any():
        return ()
    upright = np.pad(np.asarray(scan.planes.turn_upright(plane), dtype=np.float32), 1)
    scale = np.array([size[0] / plane.shape[1], size[1] / plane.shape[0]])
    # Minus the padding, plus half a pixel: from pixel centres to the picture's corner.
    lines = find_contours(upright, _CONTOUR_LEVEL)  # type: ignore[no-untyped-call]
    return tuple((line[:, ::-1] - 0.5) * scale for line in lines)
