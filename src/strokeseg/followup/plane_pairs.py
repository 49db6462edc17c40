"""Slices of the later scan beside the earlier scan on the same planes, as data and as images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from strokeseg.followup import sampling
from strokeseg.followup.document import Change
from strokeseg.followup.registration import Alignment
from strokeseg.outputs.images import slice_images
from strokeseg.outputs.images.slice_images import Polyline
from strokeseg.pipeline import Result
from strokeseg.result import are_sides_known
from strokeseg.scan import Scan

EARLIER_COLOUR, LATER_COLOUR = (95, 200, 255), slice_images.OUTLINE_COLOUR
_MAX_IMAGES = 6
_IMAGE_SIDE = 560


@dataclass(frozen=True)
class PlanePairs:
    """Slices of the later scan, and the earlier scan resampled to the same planes.

    Attributes
    ----------
    slices : tuple of int
        Slice indices of the later scan.
    earlier, later : Scan
        Scans on the planes of these slices.
    earlier_mask, later_mask : ndarray of bool, shape (slices, rows, columns)
        Masks of all lesions on these planes.
    """

    slices: tuple[int, ...]
    earlier: Scan
    earlier_mask: NDArray[np.bool_]
    later: Scan
    later_mask: NDArray[np.bool_]


def make_plane_pairs(earlier: Result, later: Result, alignment: Alignment, slices: Sequence[int]) -> PlanePairs:
    """Resample the earlier scan to slices of the later one.

    Parameters
    ----------
    earlier, later : Result
        The results of the two scans.
    alignment : Alignment
        Registration of the earlier scan to the later one.
    slices : sequence of int
        Slice indices of the later scan.

    Returns
    -------
    PlanePairs
        Both scans on the planes of these slices.
    """
    chosen = list(slices)
    earlier_scan, earlier_mask = resample_to_slices(earlier, alignment, later.scan, chosen)
    later_scan = _select_slices(later.scan, chosen, later.scan.hu[chosen], later.scan)
    return PlanePairs(tuple(chosen), earlier_scan, earlier_mask, later_scan, later.mask[chosen])


def choose_slices(earlier: Result, later: Result, alignment: Alignment, change: Change) -> list[int]:
    """Choose the slices of the later scan to show: for each change the one with the largest area, at most six.

    Parameters
    ----------
    earlier, later : Result
        The results of the two scans.
    alignment : Alignment
        Registration of the earlier scan to the later one.
    change : Change
        The changes.

    Returns
    -------
    list of int
        Slice indices, inferior first; the middle slice if there is no lesion.
    """
    planes = later.scan.planes
    chosen = []
    for lesion in change.lesions:
        if lesion.later:
            chosen.append(int(np.isin(later.labels, lesion.later).sum((1, 2)).argmax()))
        else:
            pixels = np.argwhere(np.isin(earlier.labels, lesion.earlier))
            points = alignment.to_later(earlier.scan.planes.to_lps_mm(pixels))
            along = float((points @ planes.normal).mean())
            chosen.append(int(np.abs(planes.along_normal_mm - along).argmin()))
    unique = list(dict.fromkeys(chosen))[:_MAX_IMAGES]
    return sorted(unique) or [len(later.scan.hu) // 2]


def resample_to_slices(
    earlier: Result, alignment: Alignment, later: Scan, slices: list[int]
) -> tuple[Scan, NDArray[np.bool_]]:
    """Resample the earlier scan to slices of the later one, for viewing only: nothing is measured on it.

    Parameters
    ----------
    earlier : Result
        The result of the earlier scan.
    alignment : Alignment
        Registration of the earlier scan to the later one.
    later : Scan
        The later scan.
    slices : list of int
        Slice indices of the later scan.

    Returns
    -------
    scan : Scan
        The earlier scan on these planes, -1000 HU outside its coverage.
    mask : ndarray of bool, shape (slices, rows, columns)
        The mask on these planes: True where more than half of the surroundings is in the mask.
    """
    planes = later.planes
    _, rows, columns = later.shape
    pixels = np.column_stack([axis.ravel() for axis in np.indices((rows, columns))])
    images, masks = [], []
    mask = earlier.mask.astype(np.float32)
    for index in slices:
        points = planes.to_lps_mm(np.column_stack([np.full(len(pixels), index), pixels]))
        indices = sampling.lps_to_indices(earlier.scan.planes, alignment.to_earlier(points))
        images.append(sampling.interpolate_linear(earlier.scan.hu, indices, -1000.0).reshape(rows, columns))
        masks.append(sampling.interpolate_linear(mask, indices, 0.0).reshape(rows, columns) > 0.5)
    return _select_slices(later, slices, np.rint(images).astype(np.int16), earlier.scan), np.array(masks)


def draw_pair(pairs: PlanePairs, number: int) -> Image.Image:
    """Draw one plane of both scans side by side: earlier outline in blue, later outline in yellow.

    Parameters
    ----------
    pairs : PlanePairs
        The planes.
    number : int
        Which plane, counted from 0.

    Returns
    -------
    Image
        RGB image; the right half has both outlines, so that a change is visible.
    """
    left, right = render_slice(pairs.earlier, number), render_slice(pairs.later, number)
    earlier_lines = slice_images.trace_outlines(pairs.earlier, pairs.earlier_mask[number], left.size)
    later_lines = slice_images.trace_outlines(pairs.later, pairs.later_mask[number], right.size)
    gap = 4
    pair = Image.new("RGB", (2 * left.width + gap, left.height), (255, 255, 255))
    earlier_layer, later_layer = (earlier_lines, EARLIER_COLOUR), (later_lines, LATER_COLOUR)
    pair.paste(_draw_layers(left, [earlier_layer]), (0, 0))
    pair.paste(_draw_layers(right, [earlier_layer, later_layer]), (left.width + gap, 0))
    draw, (width, height) = ImageDraw.Draw(pair), left.size
    font, edge = ImageFont.load_default(height / 28), {"stroke_width": 2, "stroke_fill": (0, 0, 0)}
    margin = height / 40
    uncertain = "" if are_sides_known(pairs.later.remarks) else "?"
    titles = ((0, "earlier", EARLIER_COLOUR), (width + gap, f"later, slice {pairs.slices[number] + 1}", LATER_COLOUR))
    for start, title, colour in titles:
        draw.text((start + margin, margin), title, colour, font, "la", **edge)  # type: ignore[arg-type]
        for letter, x, anchor in (("R", margin, "lm"), ("L", width - margin, "rm")):
            position = (start + x, height * 0.3)
            draw.text(position, letter + uncertain, slice_images.LETTER_COLOUR, font, anchor, **edge)  # type: ignore[arg-type]
    return pair


def render_slice(scan: Scan, index: int) -> Image.Image:
    """Render a slice in the brain window as an upright image of square pixels whose longer side is 560 pixels."""
    image = Image.fromarray(slice_images.apply_brain_window(scan.planes.turn_upright(scan.hu[index])))
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    height, width = scan.shape[1] * row_mm, scan.shape[2] * column_mm
    scale = _IMAGE_SIDE / max(height, width)
    return image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)


def _select_slices(scan: Scan, slices: list[int], hu: NDArray[np.int16], origin: Scan) -> Scan:
    """Return some slices of a scan as a scan with other pixels, which come from the scan ``origin``."""
    planes = replace(scan.planes, positions_mm=scan.planes.positions_mm[slices])
    return Scan(hu, planes, calibrated=origin.calibrated, kind="array", window=origin.window, remarks=origin.remarks)


def _draw_layers(image: Image.Image, layers: Sequence[tuple[Sequence[Polyline], tuple[int, int, int]]]) -> Image.Image:
    for lines, colour in layers:
        image = slice_images.draw_outlines(image, lines, colour, half_pixels=3)
    return image
