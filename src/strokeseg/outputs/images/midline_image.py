"""The midline shift as it was measured: the slice, the ideal midline, and how far the septum stands from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from strokeseg.outputs.images import orthogonal_planes, slice_images
from strokeseg.result import Findings, Midline
from strokeseg.scan import Floats, Scan

NAME = "midline.png"

MIDLINE_COLOUR, SHIFT_COLOUR = (92, 190, 255), (120, 235, 140)
"""The colours of the ideal midline, and of the septum with the way from the midline to it."""


def save(folder: Path, scan: Scan, mask: NDArray[np.bool_], findings: Findings) -> dict[str, str]:
    """Write `midline.png` (:func:`picture`) where a shift was measured.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        On the scan's grid.

    Returns
    -------
    dict of str to str
        The name of the file; nothing where no shift was measured.
    """
    drawn = draw_midline_shift(scan, mask, findings)
    if drawn is None:
        return {}
    drawn.save(folder / NAME, compress_level=6)
    return {"midline": NAME}


def draw_midline_shift(scan: Scan, mask: NDArray[np.bool_], findings: Findings) -> Image.Image | None:
    """Draw the slice on which the shift was measured: the ideal midline in blue, the septum and the shift in green.

    What is drawn is ``findings.midline``, the length told is ``findings.midline_shift_mm``. The way from the midline to
    the septum is drawn at right angles to the midline.

    Returns
    -------
    Image or None
        RGB picture, as :func:`strokeseg.outputs.images.slice_images.draw_key_slice`; None where no shift was
        measured.
    """
    measured = findings.midline
    if measured is None or findings.midline_shift_mm is None:
        return None
    image = slice_images.draw_key_slice(scan, mask, measured.slice)
    front, back, septum = project_midline(scan, measured, image.size)
    along = (back - front) / np.linalg.norm(back - front)
    foot = front + ((septum - front) @ along) * along
    # Beyond its ends, which lie on the bone's inner surface, the line goes on a little, to be seen in the bone.
    beyond = along * image.height / 40
    image = slice_images.draw_outlines(
        image, [np.stack([front - beyond, back + beyond])], MIDLINE_COLOUR, half_pixels=3
    )
    radius = image.height / 90
    turn = np.linspace(0, 2 * np.pi, 25)
    ring = septum + radius * np.column_stack([np.cos(turn), np.sin(turn)])
    lines = [ring]
    if (length := float(np.linalg.norm(septum - foot))) > radius:
        # A bar with a stop at the midline.
        stop = along * radius
        lines += [np.stack([foot, septum + (foot - septum) * radius / length]), np.stack([foot - stop, foot + stop])]
    image = slice_images.draw_outlines(image, lines, SHIFT_COLOUR, half_pixels=4)
    side = f" to the {findings.midline_shift_side}" if findings.midline_shift_side else ""
    text = f"midline shift {findings.midline_shift_mm:.1f} mm{side}"
    margin, font = image.height / 40, ImageFont.load_default(image.height / 28)
    ImageDraw.Draw(image).text(
        (margin, margin),
        text,
        SHIFT_COLOUR,
        font,
        "la",
        stroke_width=2,
        stroke_fill=(0, 0, 0),
    )
    return image


def project_midline(scan: Scan, measured: Midline, size: Sequence[int]) -> Floats:
    """Return where the front end, the back end and the septum lie in an upright picture of the slice.

    Parameters
    ----------
    size : sequence of int
        (width, height) of the picture.

    Returns
    -------
    Floats
        (3, 2), (x, y) from the picture's top left corner.
    """
    points = np.array([measured.front_lps_mm, measured.back_lps_mm, measured.septum_lps_mm])
    rows, columns = orthogonal_planes.lps_to_indices(scan.planes, points)[:, 1:].T
    if scan.planes.column_cosine[1] < 0:
        rows = scan.shape[1] - 1 - rows
    if scan.planes.row_cosine[0] < 0:
        columns = scan.shape[2] - 1 - columns
    return np.column_stack([(columns + 0.5) * size[0] / scan.shape[2], (rows + 0.5) * size[1] / scan.shape[1]])
