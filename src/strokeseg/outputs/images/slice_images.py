"""Images of slices: upright, the patient's left on the right, lesions outlined."""

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
from strokeseg.scan_options import BRAIN_WINDOW

OUTLINE_COLOUR = (255, 208, 46)
LETTER_COLOUR = (200, 208, 216)
MAX_REPORT_SLICES = 24
_MAX_KEY_SLICES = 5
_SLICES_WITHOUT_LESIONS = 6
_MIN_SIDE, _MAX_SIDE = 512, 2048
# Just above 0: the line runs outside every marked pixel, at most half a pixel away, and cuts off no corner.
_CONTOUR_LEVEL = 0.02

Polyline = NDArray[np.float64]
"""Shape (n, 2): points (x, y) in the pixels of an image, from its top left corner."""


@dataclass(frozen=True)
class SliceImage:
    """One slice of the report.

    Attributes
    ----------
    index : int
        Index of the slice, inferior first.
    jpeg : bytes
        Grey image, upright, the patient's left on the right, without outline.
    size : tuple of (int, int)
        (width, height) of the image, pixels.
    outlines : tuple of ndarray of float64, shape (n, 2)
        Closed lines around the lesions, (x, y) in the pixels of the image from its top left corner.
    """

    index: int
    jpeg: bytes
    size: tuple[int, int]
    outlines: tuple[Polyline, ...]


@dataclass(frozen=True)
class ReportSlices:
    """The slices shown in the report.

    Attributes
    ----------
    slices : tuple of SliceImage
        Their images.
    positive_count : int
        Number of slices of the scan with lesions, whether shown or not.
    """

    slices: tuple[SliceImage, ...]
    positive_count: int


def choose_key_slices(labels: Labels) -> list[int]:
    """Choose the key slices: for each of the five largest lesions the slice on which it is largest.

    Lesions that are largest on the same slice share it. Without any lesion, the middle slice is chosen.

    Parameters
    ----------
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion.

    Returns
    -------
    list of int
        Slice indices without repetition, in the order of the lesions.
    """
    count = int(labels.max(initial=0))
    lesions = range(1, min(count, _MAX_KEY_SLICES) + 1)
    chosen = [int(np.argmax([np.count_nonzero(plane == lesion) for plane in labels])) for lesion in lesions]
    return list(dict.fromkeys(chosen or [len(labels) // 2]))


def draw_report_slices(scan: Scan, mask: NDArray[np.bool_]) -> ReportSlices:
    """Draw the slices of the report: up to 24 slices with lesions, or without any lesion six evenly spaced slices.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.

    Returns
    -------
    ReportSlices
        The images, inferior first.
    """
    positive = np.flatnonzero(mask.any((1, 2)))
    if positive.size:
        chosen = positive[_choose_evenly(positive.size, MAX_REPORT_SLICES)]
    else:
        # The middles of equal parts: the ends of a whole scan show little brain.
        parts = min(len(mask), _SLICES_WITHOUT_LESIONS)
        chosen = ((np.arange(parts) + 0.5) * len(mask) / parts).astype(int)
    images = []
    for index in chosen:
        image = Image.fromarray(_render_slice(scan, int(index)))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85, optimize=True)
        lines = trace_outlines(scan, mask[index], image.size)
        images.append(SliceImage(int(index), buffer.getvalue(), image.size, lines))
    return ReportSlices(tuple(images), int(positive.size))


def draw_key_slice(scan: Scan, mask: NDArray[np.bool_], index: int) -> Image.Image:
    """Draw a slice with the outline of its lesions, the side letters and the slice number, counted from 1.

    Sides that are only assumed are marked with a question mark.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.
    index : int
        Index of the slice.

    Returns
    -------
    Image
        RGB image, square pixels, at least 512 pixels a side.
    """
    grey = Image.fromarray(_render_slice(scan, index))
    image = draw_outlines(grey, trace_outlines(scan, mask[index], grey.size))
    draw, (width, height) = ImageDraw.Draw(image), image.size
    font, small = ImageFont.load_default(height / 24), ImageFont.load_default(height / 36)
    margin, edge = height / 40, {"stroke_width": 2, "stroke_fill": (0, 0, 0)}
    uncertain = "" if are_sides_known(scan.remarks) else "?"
    draw.text((margin, height * 0.3), "R" + uncertain, LETTER_COLOUR, font, "lm", **edge)  # type: ignore[arg-type]
    right = width - margin
    draw.text((right, height * 0.3), "L" + uncertain, LETTER_COLOUR, font, "rm", **edge)  # type: ignore[arg-type]
    caption = f"slice {index + 1} of {len(mask)}"
    draw.text((margin, height - margin), caption, LETTER_COLOUR, small, "ls", **edge)  # type: ignore[arg-type]
    return image


def draw_outlines(
    image: Image.Image, lines: Sequence[Polyline], colour: tuple[int, int, int] = OUTLINE_COLOUR, half_pixels: int = 2
) -> Image.Image:
    """Draw lines onto a copy of an image.

    Parameters
    ----------
    image : Image
        The image.
    lines : sequence of ndarray of float64, shape (n, 2)
        Points (x, y) from the top left corner of the image.
    colour : tuple of (int, int, int), optional
        RGB.
    half_pixels : int, default: 2
        Width of the lines in half pixels.

    Returns
    -------
    Image
        RGB image.
    """
    outlined = image.convert("RGB")
    if not lines:
        return outlined
    # Drawn at twice the size and averaged, for a smooth line.
    line = Image.new("L", (image.width * 2, image.height * 2))
    for points in lines:
        ImageDraw.Draw(line).line([(x * 2 - 0.5, y * 2 - 0.5) for x, y in points], fill=255, width=half_pixels)
    outlined.paste(colour, (0, 0, *image.size), line.resize(image.size, Image.Resampling.BOX))
    return outlined


def apply_brain_window(hu: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert Hounsfield units to the grey levels of the brain window."""
    centre, width = BRAIN_WINDOW
    level = (np.asarray(hu, dtype=np.float32) - np.float32(centre - width / 2)) * np.float32(255 / width)
    return np.clip(level + np.float32(0.5), 0, 255).astype(np.uint8)


def trace_outlines(scan: Scan, plane: NDArray[np.bool_], size: tuple[int, int]) -> tuple[Polyline, ...]:
    """Trace the closed lines around the mask of a slice.

    Parameters
    ----------
    scan : Scan
        The scan, whose planes say how the slice is turned upright.
    plane : ndarray of bool, shape (rows, columns)
        Mask of the slice, as acquired.
    size : tuple of (int, int)
        (width, height) of the image in whose pixels the lines are given.

    Returns
    -------
    tuple of ndarray of float64, shape (n, 2)
        Points (x, y) from the top left corner of the upright image.
    """
    from skimage.measure import find_contours

    if not plane.any():
        return ()
    upright = np.pad(np.asarray(scan.planes.turn_upright(plane), dtype=np.float32), 1)
    scale = np.array([size[0] / plane.shape[1], size[1] / plane.shape[0]])
    # Minus the padding, plus half a pixel: from pixel centres to the corner of the image.
    lines = find_contours(upright, _CONTOUR_LEVEL)  # type: ignore[no-untyped-call]
    return tuple((line[:, ::-1] - 0.5) * scale for line in lines)


def format_svg_path(lines: Sequence[Polyline]) -> str:
    """Format closed lines as the data of an SVG path."""
    return " ".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line[:-1]) + "Z" for line in lines)


def _choose_evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return up to ``most`` indices below ``count``, evenly spaced and including both ends."""
    return np.unique(np.rint(np.linspace(0, count - 1, min(count, most))).astype(np.int64))


def _compute_image_size(scan: Scan) -> tuple[int, int]:
    """Return (width, height) of a slice's image: square pixels, sides of 512 to 2048, the upper bound first."""
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    finest = min(row_mm, column_mm)
    height, width = scan.shape[1] * row_mm / finest, scan.shape[2] * column_mm / finest
    scale = min(max(1.0, _MIN_SIDE / min(height, width)), _MAX_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _render_slice(scan: Scan, index: int) -> NDArray[np.uint8]:
    """Render one slice in the brain window as an upright image, uint8 (height, width)."""
    image = Image.fromarray(apply_brain_window(scan.planes.turn_upright(scan.hu[index])))
    size = _compute_image_size(scan)
    return np.asarray(image if size == image.size else image.resize(size, Image.Resampling.BICUBIC))
