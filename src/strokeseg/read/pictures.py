"""Pictures of CT slices: grey levels through a window, no Hounsfield units, no spacing unless it is given."""

from __future__ import annotations

import io
import re
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InconsistentGeometry, NotHead, TooLarge, UnreadableFile, UsageError
from strokeseg.read.archive import Member
from strokeseg.result import Remark
from strokeseg.scan import Scan

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_MOST_PIXELS = 4096 * 4096
_BRAIN_HU = 33.0
_COLOUR = 24

WINDOWS = ((40.0, 80.0), (40.0, 120.0), (127.5, 255.0))
"""(centre, width) that a picture's window is estimated among."""

Grey = NDArray[np.float32]


def scan(
    members: list[Member], window: tuple[float, float] | None, spacing_mm: tuple[float, float, float] | None
) -> Scan:
    """Read one picture, or pictures in the natural order of their names as one stack, the lowest slice first.

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NotHead
        `unreadable`, `too-large`; `geometry` if sizes differ; `not-head` for a colour picture
    UsageError
        `usage`, for a window or spacing that is not above zero
    """
    if window is not None and not (np.isfinite(window).all() and window[1] > 0):
        raise UsageError(f"--window {window[0]:g},{window[1]:g}: the width must be above 0")
    if spacing_mm is not None and not all(0 < value < 1000 for value in spacing_mm):
        raise UsageError("--spacing: slice, row and column must be lengths in mm above 0")
    ordered = sorted(members, key=lambda member: natural(member.name))
    planes = [grey(member) for member in ordered]
    for member, plane in zip(ordered, planes, strict=True):
        if plane.shape != planes[0].shape:
            raise InconsistentGeometry(
                f"{member.name}: {plane.shape[1]} x {plane.shape[0]} pixels, {ordered[0].name} has "
                f"{planes[0].shape[1]} x {planes[0].shape[0]}",
                "Give pictures of one size, one series alone.",
            )
    stack = np.stack(planes)
    remarks = []
    if window is None:
        window = estimate_window(stack)
        message = f"The window was estimated from the grey levels: centre {window[0]:g}, width {window[1]:g}."
        remarks.append(Remark(code="window-estimated", severity="info", message=message))
    if len(ordered) > 1:
        message = "The pictures were stacked in the order of their names, the first as the lowest."
        remarks.append(Remark(code="assumed-order", severity="info", message=message))
    message = "Grey levels of pictures are no Hounsfield units: densities are not given."
    remarks.append(Remark(code="uncalibrated", severity="warning", message=message))
    centre, width = window
    made = Scan.from_array(stack * width + centre - width / 2, spacing_mm, calibrated=False, kind="pictures")
    return Scan(
        made.hu,
        made.planes,
        calibrated=False,
        spacing_known=spacing_mm is not None,
        kind="pictures",
        window=(float(centre), float(width)),
        remarks=tuple(remarks),
    )


def natural(name: str) -> list[tuple[int, int | str]]:
    """Give a key that sorts numbers in names by their value: 077_2 before 077_10."""
    parts = re.split(r"(\d+)", str(PurePosixPath(name.replace("\\", "/"))).lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def grey(member: Member) -> Grey:
    """Read one picture as grey, 0..1.

    Raises
    ------
    UnreadableFile, TooLarge, NotHead
        `unreadable`, `too-large`; `not-head` if its colours differ on more than 2 % of the pixels
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(member.read())) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise TooLarge(f"{member.name}: {image.width} x {image.height} pixels; at most 4096 x 4096 are read")
            if image.mode.startswith(("I", "F")):
                values = np.asarray(image, dtype=np.float32)
                top = 65535.0 if values.max() > 4095 else 4095.0 if values.max() > 255 else 255.0
                return np.clip(values / top, 0, 1)
            pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableFile(f"{member.name}: no readable picture ({type(error).__name__})") from None
    if (np.ptp(pixels, axis=2) > _COLOUR).mean() > 0.02:
        raise NotHead(f"{member.name}: a colour picture, not a CT slice in grey")
    return pixels.mean(axis=2, dtype=np.float32) / 255


def estimate_window(stack: Grey) -> tuple[float, float]:
    """Estimate the window that made the pictures: the one that puts the brain's commonest grey nearest 33 HU.

    The commonest grey is searched between 4 % and 90 % of the range, inside the middle half of the pictures.
    """
    rows, columns = stack.shape[1:]
    middle = stack[:, rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    counts, edges = np.histogram(middle, bins=86, range=(0.04, 0.9))
    smooth = np.convolve(counts, np.ones(5), "same")
    mode = float(edges[smooth.argmax()] + edges[1] - edges[0])
    return min(WINDOWS, key=lambda w: abs(mode * w[1] + w[0] - w[1] / 2 - _BRAIN_HU))
