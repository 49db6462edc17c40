"""Slices as pictures: face up, the patient's left on the right, the bleeding outlined."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from strokeseg.components import Labels
from strokeseg.result import sides_known
from strokeseg.scan import Scan

WINDOW = (40.0, 80.0)
"""(centre, width), Hounsfield units: the brain window."""

OUTLINE = (255, 208, 46)
MOST_IN_REPORT = 24
_MOST_KEYS = 5
_WITHOUT_BLEEDING = 6
_LEAST_SIDE, _MOST_SIDE = 512, 2048
LETTER = (200, 208, 216)
# Just above 0: the line passes outside of every marked pixel, at most half a pixel away, and cuts no corner of it.
_LEVEL = 0.02

Points = NDArray[np.float64]


@dataclass(frozen=True)
class SlicePicture:
    """One slice of the report.

    Parameters
    ----------
    index : the slice's index, inferior first
    jpeg : grey, face up, the patient's left on the right, without outline
    size : (width, height) of the picture, pixels
    outlines : closed lines around the bleeding, each (n, 2), (x, y) in the picture's pixels from its top left corner
    """

    index: int
    jpeg: bytes
    size: tuple[int, int]
    outlines: tuple[Points, ...]


@dataclass(frozen=True)
class Shown:
    """The slices of the report, and of how many with bleeding they are."""

    slices: tuple[SlicePicture, ...]
    positive: int


def key_slices(labels: Labels) -> list[int]:
    """Choose the slices that show each bleed best: for each of the five largest lesions the one on which it is largest.

    Lesions that are largest on the same slice share it. Without any lesion it is the middle slice.

    Parameters
    ----------
    labels : (slices, rows, columns), 1 is the largest lesion

    Returns
    -------
    Indices, the largest lesion's first, each once
    """
    count = int(labels.max(initial=0))
    lesions = range(1, min(count, _MOST_KEYS) + 1)
    chosen = [int(np.argmax([np.count_nonzero(plane == lesion) for plane in labels])) for lesion in lesions]
    return list(dict.fromkeys(chosen or [len(labels) // 2]))


def for_report(scan: Scan, mask: NDArray[np.bool_]) -> Shown:
    """Draw the slices that the report shows: those with bleeding, at most 24; without any, six spread over the scan."""
    positive = np.flatnonzero(mask.any((1, 2)))
    if positive.size:
        chosen = positive[_spread(positive.size, MOST_IN_REPORT)]
    else:
        # The middles of equal parts: the ends of a whole scan show little brain.
        parts = min(len(mask), _WITHOUT_BLEEDING)
        chosen = ((np.arange(parts) + 0.5) * len(mask) / parts).astype(int)
    pictures = []
    for index in chosen:
        image = Image.fromarray(_grey(scan, int(index)))
        packed = io.BytesIO()
        image.save(packed, "JPEG", quality=85, optimize=True)
        lines = outlines(scan, mask[index], image.size)
        pictures.append(SlicePicture(int(index), packed.getvalue(), image.size, lines))
    return Shown(tuple(pictures), int(positive.size))


def key_picture(scan: Scan, mask: NDArray[np.bool_], index: int) -> Image.Image:
    """Draw one slice with the outline of its bleeding, the letters of its sides, and its number counted from 1.

    Sides that are only assumed carry a question mark.

    Returns
    -------
    RGB picture, at least 512 pixels a side, square pixels
    """
    grey = Image.fromarray(_grey(scan, index))
    image = outlined(grey, outlines(scan, mask[index], grey.size))
    draw, (width, height) = ImageDraw.Draw(image), image.size
    font, small = ImageFont.load_default(height / 24), ImageFont.load_default(height / 36)
    margin, edge = height / 40, {"stroke_width": 2, "stroke_fill": (0, 0, 0)}
    doubt = "" if sides_known(scan.remarks) else "?"
    draw.text((margin, height * 0.3), "R" + doubt, LETTER, font, "lm", **edge)  # type: ignore[arg-type]
    draw.text((width - margin, height * 0.3), "L" + doubt, LETTER, font, "rm", **edge)  # type: ignore[arg-type]
    caption = f"slice {index + 1} of {len(mask)}"
    draw.text((margin, height - margin), caption, LETTER, small, "ls", **edge)  # type: ignore[arg-type]
    return image


def outlined(
    picture: Image.Image, lines: Sequence[Points], colour: tuple[int, int, int] = OUTLINE, half_pixels: int = 2
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


def windowed(hu: NDArray[Any]) -> NDArray[np.uint8]:
    """Give Hounsfield units as the grey levels of the brain window."""
    centre, width = WINDOW
    level = (np.asarray(hu, dtype=np.float32) - np.float32(centre - width / 2)) * np.float32(255 / width)
    return np.clip(level + np.float32(0.5), 0, 255).astype(np.uint8)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Give up to ``most`` indices spread evenly over ``count``, both ends among them."""
    return np.unique(np.rint(np.linspace(0, count - 1, min(count, most))).astype(np.int64))


def _size(scan: Scan) -> tuple[int, int]:
    """Give (width, height) of a slice's picture: square pixels, sides of 512 to 2048, the upper bound first."""
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    finest = min(row_mm, column_mm)
    height, width = scan.shape[1] * row_mm / finest, scan.shape[2] * column_mm / finest
    scale = min(max(1.0, _LEAST_SIDE / min(height, width)), _MOST_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _grey(scan: Scan, index: int) -> NDArray[np.uint8]:
    """Give one slice in the brain window as an upright picture, uint8 (height, width)."""
    image = Image.fromarray(windowed(scan.planes.upright(scan.hu[index])))
    size = _size(scan)
    return np.asarray(image if size == image.size else image.resize(size, Image.Resampling.BICUBIC))


def outlines(scan: Scan, plane: NDArray[np.bool_], size: tuple[int, int]) -> tuple[Points, ...]:
    """Give the closed lines around a slice's mask, (n, 2) each, (x, y) in a picture of the size (width, height)."""
    from skimage.measure import find_contours

    if not plane.any():
        return ()
    upright = np.pad(np.asarray(scan.planes.upright(plane), dtype=np.float32), 1)
    scale = np.array([size[0] / plane.shape[1], size[1] / plane.shape[0]])
    # Minus the padding, plus half a pixel: from pixel centres to the picture's corner.
    lines = find_contours(upright, _LEVEL)  # type: ignore[no-untyped-call]
    return tuple((line[:, ::-1] - 0.5) * scale for line in lines)
