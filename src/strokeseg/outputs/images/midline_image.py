"""The midline shift as measured: the slice, the ideal midline, and the distance of the septum pellucidum from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from strokeseg.outputs.images.orthogonal_planes import lps_to_indices
from strokeseg.outputs.images.slice_images import draw_key_slice, draw_outlines
from strokeseg.result import Findings, Midline
from strokeseg.scan import Floats, Scan

MIDLINE_COLOUR, SHIFT_COLOUR = (92, 190, 255), (120, 235, 140)
"""The colours of the ideal midline, and of the septum with its distance from the midline."""


def draw_midline_shift(scan: Scan, mask: NDArray[np.bool_], findings: Findings) -> Image.Image | None:
    """Draw the slice of the midline shift: the ideal midline in blue, the septum and the shift in green.

    The points come from ``findings.midline``, the length from ``findings.midline_shift_mm``. The line from the midline
    to the septum is perpendicular to the midline.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.
    findings : Findings
        The measurements.

    Returns
    -------
    Image or None
        RGB image as from :func:`strokeseg.outputs.images.slice_images.draw_key_slice`; None if no shift was measured.
    """
    midline = findings.midline
    if midline is None or findings.midline_shift_mm is None:
        return None
    image = draw_key_slice(scan, mask, midline.slice)
    front, back, septum = project_midline(scan, midline, image.size)
    along = (back - front) / np.linalg.norm(back - front)
    foot = front + ((septum - front) @ along) * along
    # The ends lie on the inner table of the skull; the line is drawn a little longer, so that it shows in the bone.
    extension = along * image.height / 40
    image = draw_outlines(image, [np.stack([front - extension, back + extension])], MIDLINE_COLOUR, half_pixels=3)
    radius = image.height / 90
    angles = np.linspace(0, 2 * np.pi, 25)
    ring = septum + radius * np.column_stack([np.cos(angles), np.sin(angles)])
    lines = [ring]
    if (length := float(np.linalg.norm(septum - foot))) > radius:
        # A bar with a stop at the midline.
        stop = along * radius
        lines += [np.stack([foot, septum + (foot - septum) * radius / length]), np.stack([foot - stop, foot + stop])]
    image = draw_outlines(image, lines, SHIFT_COLOUR, half_pixels=4)
    side = f" to the {findings.midline_shift_side}" if findings.midline_shift_side else ""
    text = f"midline shift {findings.midline_shift_mm:.1f} mm{side}"
    margin, font = image.height / 40, ImageFont.load_default(image.height / 28)
    draw = ImageDraw.Draw(image)
    draw.text((margin, margin), text, SHIFT_COLOUR, font, "la", stroke_width=2, stroke_fill=(0, 0, 0))
    return image


def project_midline(scan: Scan, midline: Midline, size: Sequence[int]) -> Floats:
    """Project the anterior end, the posterior end and the septum into the upright image of the slice.

    Parameters
    ----------
    scan : Scan
        The scan.
    midline : Midline
        The measured points, LPS mm.
    size : sequence of int
        (width, height) of the image.

    Returns
    -------
    ndarray of float64, shape (3, 2)
        (x, y) from the top left corner of the image.
    """
    points = np.array([midline.front_lps_mm, midline.back_lps_mm, midline.septum_lps_mm])
    rows, columns = lps_to_indices(scan.planes, points)[:, 1:].T
    if scan.planes.column_cosine[1] < 0:
        rows = scan.shape[1] - 1 - rows
    if scan.planes.row_cosine[0] < 0:
        columns = scan.shape[2] - 1 - columns
    return np.column_stack([(columns + 0.5) * size[0] / scan.shape[2], (rows + 0.5) * size[1] / scan.shape[1]])
