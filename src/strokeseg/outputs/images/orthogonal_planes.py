"""Axial, coronal and sagittal planes through each lesion, all at the same scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from strokeseg.imaging import components
from strokeseg.imaging.components import Labels
from strokeseg.outputs.images.montage import find_head_box
from strokeseg.outputs.images.slice_images import LETTER_COLOUR, apply_brain_window, draw_outlines
from strokeseg.result import are_sides_known
from strokeseg.scan import Floats, Planes, Scan

_MAX_LESIONS = 5
_HEIGHT, _GAP, _CAPTION = 420, 8, 26
_BACKGROUND, _MARK_COLOUR = (12, 16, 22), (92, 190, 255)
_AIR_HU = -1024
_SCALE_BAR_MM = 50


@dataclass(frozen=True)
class Panel:
    """One plane to draw.

    Attributes
    ----------
    name : str
        "axial", "coronal" or "sagittal".
    right, down : ndarray of float64, shape (3,)
        Unit vectors, LPS, along the columns and the rows of the image.
    letters : tuple of (str, str)
        Patient directions at the left and right edge of the image.
    """

    name: str
    right: Floats
    down: Floats
    letters: tuple[str, str]


def draw_lesion_planes(scan: Scan, labels: Labels) -> list[Image.Image]:
    """Draw the three planes through the deepest pixel of each of the five largest lesions.

    The axial plane is the slice as acquired, also with a tilted gantry; the other planes are perpendicular to it and
    interpolated between the slices. Without any lesion there is one image, through the middle of the scan.

    Parameters
    ----------
    scan : Scan
        The scan.
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion.

    Returns
    -------
    list of Image
        RGB images, in the order of the lesions.
    """
    head = find_head_box(scan, labels > 0)
    lesions = range(1, min(int(labels.max(initial=0)), _MAX_LESIONS) + 1)
    points = [_find_deepest_pixel(labels == lesion) for lesion in lesions] or [_find_middle_pixel(scan, head)]
    return [draw_planes(scan, labels > 0, point, head) for point in points]


def draw_planes(
    scan: Scan, mask: NDArray[np.bool_], point: tuple[int, int, int], head: tuple[int, int, int, int]
) -> Image.Image:
    """Draw the three planes through a pixel side by side.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.
    point : tuple of (int, int, int)
        (slice, row, column) of the pixel.
    head : tuple of (int, int, int, int)
        First row, end row, first column, end column to show.

    Returns
    -------
    Image
        RGB image.
    """
    frame = compute_axes(scan.planes)
    centre = frame @ scan.planes.to_lps_mm([point])[0]
    stack, own = _compute_box_mm(scan, head, (0, len(scan.hu) - 1)), _compute_box_mm(scan, head, (point[0], point[0]))
    pixel_mm = float((stack[1] - stack[0]).max()) / _HEIGHT
    images = []
    for panel, across, down, box in zip(make_panels(frame), (0, 0, 1), (1, 2, 2), (own, stack, stack), strict=True):
        shape = tuple(max(1, int(np.ceil((box[1] - box[0])[axis] / pixel_mm))) for axis in (down, across))
        rows, columns = ((np.arange(count) + 0.5) * pixel_mm for count in shape)
        corner = centre.copy()
        corner[[across, down]] = box[0, [across, down]]
        # The frame's axes are orthonormal, so its inverse is its transpose.
        points = corner @ frame + rows[:, None, None] * panel.down + columns[:, None] * panel.right
        image = _draw_section(scan, mask, points)
        cross = (centre[[across, down]] - box[0, [across, down]]) / pixel_mm
        images.append(_draw_labels(image, panel, scan, point[0], (float(cross[0]), float(cross[1])), pixel_mm))
    return _join_horizontally(images)


def compute_axes(planes: Planes) -> Floats:
    """Return the axes of the slices, pointing to the patient's left, posterior and inferior.

    They are the row and column directions and the normal of the slices, each with the sign that points this way.

    Parameters
    ----------
    planes : Planes
        The planes of a scan.

    Returns
    -------
    ndarray of float64, shape (3, 3)
        Rows are unit vectors, LPS.
    """
    row, column, normal = planes.row_cosine, planes.column_cosine, planes.normal
    return np.array([row * _sign(row[0]), column * _sign(column[1]), -normal * _sign(normal[2])])


def make_panels(frame: Floats) -> tuple[Panel, Panel, Panel]:
    """Return the three planes of a frame: the patient's left is on the right, anterior is at the top or on the left.

    Parameters
    ----------
    frame : ndarray of float64, shape (3, 3)
        From :func:`compute_axes`.

    Returns
    -------
    tuple of (Panel, Panel, Panel)
        Axial, coronal and sagittal.
    """
    left, back, feet = frame
    return (
        Panel("axial", left, back, ("R", "L")),
        Panel("coronal", left, feet, ("R", "L")),
        Panel("sagittal", back, feet, ("A", "P")),
    )


def lps_to_indices(planes: Planes, points_mm: Floats) -> Floats:
    """Map LPS mm to fractional (slice, row, column), as :meth:`Planes.to_lps_mm` maps back.

    Parameters
    ----------
    planes : Planes
        The planes of a scan.
    points_mm : ndarray of float64, shape (..., 3)
        LPS mm.

    Returns
    -------
    ndarray of float64, shape (..., 3)
        NaN where no slice covers the point: beyond the faces of the end slices, and in a gap of missing slices.
    """
    depth, count = planes.along_normal_mm, len(planes.positions_mm)
    along = points_mm @ planes.normal
    slices = np.interp(along, depth, np.arange(count))
    nearest = np.rint(slices).astype(int)
    weights = planes.weights_mm
    # Up to half a slice from the nearest one; between two slices with none missing, every point is covered.
    reach = np.where(weights > 0, weights, planes.thickness_mm or 1.0) / 2
    low = np.clip(slices.astype(int), 0, max(count - 2, 0))
    is_between = np.append(~planes.gaps_with_missing_slices, False)[low] & (along >= depth[0]) & (along <= depth[-1])
    is_uncovered = ~is_between & (np.abs(along - depth[nearest]) > reach[nearest] + 1e-6)
    origin = np.stack([np.interp(slices, np.arange(count), planes.positions_mm[:, axis]) for axis in range(3)], -1)
    offset, (row_mm, column_mm) = points_mm - origin, planes.pixel_spacing_mm
    indices = np.stack([slices, offset @ planes.column_cosine / row_mm, offset @ planes.row_cosine / column_mm], -1)
    indices[is_uncovered] = np.nan
    return np.asarray(indices)


def _draw_section(scan: Scan, mask: NDArray[np.bool_], points_mm: Floats) -> Image.Image:
    """Draw the scan and the outline of the mask at points (rows, columns, 3), LPS mm, with linear interpolation."""
    from scipy import ndimage
    from skimage.measure import find_contours

    indices = np.nan_to_num(np.moveaxis(lps_to_indices(scan.planes, points_mm), -1, 0), nan=-1e4)
    hu = ndimage.map_coordinates(scan.hu, indices, np.float32, order=1, mode="constant", cval=_AIR_HU)
    grey = Image.fromarray(apply_brain_window(hu))
    fraction, box = np.zeros(hu.shape, np.float32), components.find_bounding_box(mask)
    if box is not None:
        near = np.logical_and.reduce([(a > s.start - 1) & (a < s.stop) for a, s in zip(indices, box, strict=True)])
        values = ndimage.map_coordinates(mask.view(np.uint8), indices[:, near], np.float32, order=1, mode="constant")
        fraction[near] = values
    lines = find_contours(np.pad(fraction, 1), 0.5)  # type: ignore[no-untyped-call]
    return draw_outlines(grey, [line[:, ::-1] - 0.5 for line in lines])


def _draw_labels(
    image: Image.Image, panel: Panel, scan: Scan, index: int, cross: tuple[float, float], pixel_mm: float
) -> Image.Image:
    """Add a caption above, side letters, a scale bar below, and marks at the edges where the other planes intersect."""
    panel_image = Image.new("RGB", (image.width, image.height + 2 * _CAPTION), _BACKGROUND)
    panel_image.paste(image, (0, _CAPTION))
    draw, font = ImageDraw.Draw(panel_image), ImageFont.load_default(15)
    x, y, tick = cross[0], cross[1] + _CAPTION, min(image.size) / 14
    top, bottom = _CAPTION, _CAPTION + image.height - 1
    right = image.width - 1
    marks = [(x, top, x, top + tick), (x, bottom - tick, x, bottom), (0, y, tick, y), (right - tick, y, right, y)]
    for ends in marks:
        draw.line(ends, _MARK_COLOUR)
    name = f"{panel.name}, slice {index + 1} of {len(scan.hu)}" if panel.name == "axial" else panel.name
    draw.text((4, 4), name, LETTER_COLOUR, font, "la")
    uncertain = "" if are_sides_known(scan.remarks) or panel.name == "sagittal" else "?"
    edge = {"stroke_width": 2, "stroke_fill": (0, 0, 0)}
    middle = _CAPTION + image.height * 0.3
    draw.text((5, middle), panel.letters[0] + uncertain, LETTER_COLOUR, font, "lm", **edge)  # type: ignore[arg-type]
    draw.text((right - 4, middle), panel.letters[1] + uncertain, LETTER_COLOUR, font, "rm", **edge)  # type: ignore[arg-type]
    if panel.name == "axial":
        _draw_scale(draw, panel_image.height - _CAPTION / 2, scan, pixel_mm)
    return panel_image


def _draw_scale(draw: ImageDraw.ImageDraw, y: float, scan: Scan, pixel_mm: float) -> None:
    font = ImageFont.load_default(13)
    if not scan.spacing_known:
        draw.text((5, y), "not to scale: pixel spacing unknown", LETTER_COLOUR, font, "lm")
        return
    end = 5 + _SCALE_BAR_MM / pixel_mm
    draw.line((5, y, end, y), LETTER_COLOUR, 2)
    draw.text((end + 6, y), f"{_SCALE_BAR_MM} mm", LETTER_COLOUR, font, "lm")


def _join_horizontally(images: list[Image.Image]) -> Image.Image:
    width = sum(image.width for image in images) + _GAP * (len(images) + 1)
    height = max(image.height for image in images) + 2 * _GAP
    row, x = Image.new("RGB", (width, height), _BACKGROUND), _GAP
    for image in images:
        row.paste(image, (x, (height - image.height) // 2))
        x += image.width + _GAP
    return row


def _compute_box_mm(scan: Scan, head: tuple[int, int, int, int], slices: tuple[int, int]) -> Floats:
    """Return (2, 3), the limits of the head on some slices along the axes, mm, including slice thickness."""
    top, bottom, left, right = head
    corners = [(k, row - 0.5, column - 0.5) for k in slices for row in (top, bottom) for column in (left, right)]
    along = scan.planes.to_lps_mm(corners) @ compute_axes(scan.planes).T
    box = np.array([along.min(0), along.max(0)])
    weights = scan.planes.weights_mm
    half = np.where(weights > 0, weights, scan.planes.thickness_mm or 1.0)[[0, -1]].max() / 2
    box[:, 2] += (-half, half)
    return box


def _find_deepest_pixel(lesion: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return the pixel deepest inside a lesion on the slice on which it is largest."""
    from scipy import ndimage

    box = components.find_bounding_box(lesion)
    assert box is not None
    cropped = lesion[box]
    index = int(cropped.sum((1, 2)).argmax())
    depth = ndimage.distance_transform_edt(np.pad(cropped[index], 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return index + box[0].start, int(row) + box[1].start, int(column) + box[2].start


def _find_middle_pixel(scan: Scan, head: tuple[int, int, int, int]) -> tuple[int, int, int]:
    return len(scan.hu) // 2, (head[0] + head[1]) // 2, (head[2] + head[3]) // 2


def _sign(value: float) -> float:
    return -1.0 if value < 0 else 1.0
