"""Pictures of CT slices: grey levels through a window, no Hounsfield units, no spacing unless it is given."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, ImageSequence

from strokeseg.errors import (
    InconsistentGeometry,
    NotHead,
    SeveralSeries,
    StrokesegError,
    TooLarge,
    UnreadableFile,
    UsageError,
)
from strokeseg.reading import limits
from strokeseg.reading.head_detection import TissueThresholds, find_enclosed_tissue
from strokeseg.reading.input_file import MAX_PIXELS, InputFile
from strokeseg.reading.pictures import annotations as marks
from strokeseg.result import Remark
from strokeseg.scan import Scan

_MULTI_PAGE_ENDINGS = (".tif", ".tiff")
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # Pillow asks Ghostscript about EPS, whatever the file is named
_MAX_TOTAL_PIXELS = 2**29
_MAX_PAGES = 4096
_BRAIN_HU = 32.5
_COLOUR_DIFFERENCE = 24
_MAX_COLOURED_SHARE = 0.02

CANDIDATE_WINDOWS = ((40.0, 80.0), (40.0, 120.0), (127.5, 255.0))
"""(centre, width) that a picture's window is estimated among."""

CANDIDATE_OFFSETS_HU = (0, 1024, 32768)
"""What values of more than 8 bits may be above Hounsfield units."""

Grey = NDArray[Any]
ExpectedSize = tuple[str, tuple[int, int]]


def read_stack(
    members: list[InputFile], window: tuple[float, float] | None, spacing_mm: tuple[float, float, float] | None
) -> Scan:
    """Read one picture, a TIFF of several, or pictures in the natural order of their names as one stack.

    The first is taken for the lowest slice.

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NotHead, SeveralSeries
        `unreadable`, `too-large`; `geometry` if sizes or depths differ; `not-head` for a colour picture;
        `several-series` if they lie in several folders.
    UsageError
        `usage`, for a window or spacing that is not above zero.
    """
    _check_options(window, spacing_mm)
    ordered = sorted(members, key=lambda member: natural_sort_key(member.name))
    _check_one_folder(ordered)
    stack, coloured = _stack_pictures(ordered)
    whole = _find_white_value(stack)
    remarks: list[Remark] = []
    hu = None
    if window is None and stack.dtype != np.uint8:
        hu, remarks = _try_hounsfield(stack)
    if hu is None:
        remarks = marks.check_annotations(stack, whole, coloured)
        if window is None:
            window = estimate_window(stack, whole)
            message = f"The window was estimated from the grey levels: centre {window[0]:g}, width {window[1]:g}."
            remarks.append(Remark(code="window-estimated", severity="info", message=message))
        hu = _map_window(stack, whole, window)
    if len(stack) > 1:
        order = "order of their names" if len(ordered) > 1 else "file's order"
        message = f"The pictures were stacked in the {order}, the first as the lowest."
        remarks.append(Remark(code="assumed-order", severity="info", message=message))
    message = "Grey levels of pictures are no Hounsfield units: densities are not given."
    remarks.append(Remark(code="uncalibrated", severity="warning", message=message))
    message = "Pictures say nothing about sides: the radiological view is assumed, the patient's left on the right."
    remarks.append(Remark(code="assumed-sides", severity="info", message=message))
    planes = Scan.from_array(hu, spacing_mm).planes
    known = spacing_mm is not None
    window = None if window is None else (float(window[0]), float(window[1]))
    return Scan(hu, planes, False, known, "pictures", window=window, remarks=tuple(remarks))


def natural_sort_key(name: str) -> list[tuple[int, int | str]]:
    """Return a key that sorts numbers in names by their value: 077_2 before 077_10."""
    parts = re.split(r"([0-9]+)", str(PurePosixPath(name.replace("\\", "/"))).lower())
    return [(0, int(part[:4000])) if part.isdecimal() else (1, part) for part in parts]


@dataclass(frozen=True)
class Picture:
    """A picture in grey: uint8 for pictures of 8 bits, else float32 in the picture's own values.

    ``coloured`` is the share of its pixels that had a colour.
    """

    pixels: Grey
    coloured_share: float


def read_pictures(
    member: InputFile, max_pixels: int = _MAX_TOTAL_PIXELS, expected_size: ExpectedSize | None = None
) -> list[Picture]:
    """Read one picture, or all of a TIFF.

    Parameters
    ----------
    member : InputFile
        The file.
    most : object
        Pixels in all.
    like : object
        The name and (columns, rows) of the picture that it must be as large as.

    Raises
    ------
    UnreadableFile, TooLarge, NotHead, InconsistentGeometry
        `unreadable`, `too-large`; `not-head` if its colours differ on more than 2 % of the pixels; `geometry` if the
        size is another.
    """
    data = limits.read_within(member, limits.MAX_PICTURE_BYTES)
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            _check_sizes(_read_page_sizes(image, member.name), member.name, max_pixels, expected_size)
            return [_convert_picture(frame, member.name) for frame in ImageSequence.Iterator(image)]
    except StrokesegError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise UnreadableFile(
            f"{member.name}: no readable picture ({type(error).__name__})", "Copy or export it again."
        ) from None


def _read_page_sizes(image: Image.Image, name: str) -> list[tuple[int, int]]:
    """Return (columns, rows) of each page, from the headers alone."""
    stack = image.format == "TIFF" and name.lower().endswith(_MULTI_PAGE_ENDINGS)
    if not stack and getattr(image, "n_frames", 1) > 1:
        raise UnreadableFile(f"{name}: holds several pictures", "Give one picture a file, or a TIFF.")
    sizes = [image.size]
    while stack:
        try:
            image.seek(len(sizes))
        except EOFError:
            break
        sizes.append(image.size)
        if len(sizes) > _MAX_PAGES:
            raise TooLarge(f"{name}: more than {_MAX_PAGES:,} pictures")
    return sizes


def _check_sizes(sizes: list[tuple[int, int]], name: str, most: int, like: ExpectedSize | None) -> None:
    """Refuse, before anything is decoded, too many pixels and a size that is not that of the first picture."""
    first, size = like or (name, sizes[0])
    for columns, rows in sizes:
        if columns * rows > MAX_PIXELS:
            raise TooLarge(f"{name}: {columns} x {rows} pixels; at most 4096 x 4096 are read")
        if size not in ((columns, rows), (rows, columns)):  # EXIF may lay a picture on its side
            raise _make_size_error(name, (columns, rows), first, size)
    if (pixels := sum(columns * rows for columns, rows in sizes)) > most:
        raise TooLarge(
            f"{name}: {len(sizes)} pictures of {pixels:,} pixels; at most {_MAX_TOTAL_PIXELS:,} are read in all"
        )


def _make_size_error(name: str, size: tuple[int, int], first: str, expected: tuple[int, int]) -> InconsistentGeometry:
    return InconsistentGeometry(
        f"{name}: {size[0]} x {size[1]} pixels, {first} has {expected[0]} x {expected[1]}",
        "Give pictures of one size, one series alone.",
    )


def _convert_picture(image: Image.Image, name: str) -> Picture:
    upright, coloured = _to_upright_grey(image, name)
    pixels = np.asarray(upright)
    if pixels.dtype == np.uint8:
        return Picture(pixels, coloured)
    values = pixels.astype(np.float32)
    if not np.isfinite(values).all():
        raise UnreadableFile(f"{name}: holds values that are no numbers", "Export the picture again.")
    return Picture(values, coloured)


def _to_upright_grey(image: Image.Image, name: str) -> tuple[Image.Image, float]:
    """Turn a picture as its EXIF says, lay what is transparent on black, and give its grey and its share of colour."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")) or image.mode == "L":
        return image, 0.0
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    red, green, blue = image.convert("RGB").split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    least = ImageChops.darker(ImageChops.darker(red, green), blue)
    spread = ImageChops.subtract(most, least).histogram()
    coloured = sum(spread[_COLOUR_DIFFERENCE + 1 :]) / sum(spread)
    if coloured > _MAX_COLOURED_SHARE:
        raise NotHead(f"{name}: a colour picture, not a CT slice in grey")
    return image.convert("L"), coloured


def estimate_window(stack: Grey, whole: float) -> tuple[float, float]:
    """Estimate the window that made the pictures: the one that puts the brain's median nearest 32 HU.

    On pictures of a known window the median of what lies inside the skull is 32 to 34 HU (PHE-SICH, CT-ICH), whatever
    the bleeding. Of single slices about 80 % of those at (40, 80) and 92 to 99 % of those at (40, 120) are told
    right; the two differ little. Where nothing lies inside bone, the median of all grey stands for it.

    Parameters
    ----------
    stack : Grey
        (slices, rows, columns).
    whole : float
        The value of white.
    """
    levels = TissueThresholds.for_window(whole / 2, whole)
    found: list[NDArray[Any]] = [
        seen.values for plane in stack if (seen := find_enclosed_tissue(plane, levels)) is not None
    ]
    if not found:
        between = stack[(stack > levels.air_below) & (stack < levels.brain_below)]
        found = [between if between.size else np.zeros(1)]
    level = float(np.median(np.concatenate(found))) / whole
    return min(CANDIDATE_WINDOWS, key=lambda w: abs(level * w[1] + w[0] - w[1] / 2 - _BRAIN_HU))


def _check_options(window: tuple[float, float] | None, spacing_mm: tuple[float, float, float] | None) -> None:
    if window is not None and not (
        _are_finite_numbers(window, 2) and -2000 < window[0] < 4000 and 0 < window[1] < 8000
    ):
        raise UsageError(f"--window {window}: must be centre and width in HU, the width above 0")
    if spacing_mm is not None and not (
        _are_finite_numbers(spacing_mm, 3) and all(0 < value < 1000 for value in spacing_mm)
    ):
        raise UsageError(f"--spacing {spacing_mm}: must be slice, row and column, lengths in mm above 0")


def _are_finite_numbers(given: Any, count: int) -> bool:
    """Whether something that a caller gave is so many finite numbers."""
    several = isinstance(given, list | tuple | np.ndarray) and len(given) == count
    return several and all(isinstance(value, int | float | np.number) and np.isfinite(value) for value in given)


def _check_one_folder(members: list[InputFile]) -> None:
    folders: dict[str, int] = {}
    for member in members:
        parent = PurePosixPath(member.name.replace("\\", "/")).parent.as_posix()
        folders[parent] = folders.get(parent, 0) + 1
    if len(folders) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in list(folders.items())[:6])
        raise SeveralSeries(f"pictures lie in {len(folders)} folders: {listed}", "Give one of these folders.")


def _stack_pictures(ordered: list[InputFile]) -> tuple[Grey, list[float]]:
    """Read pictures of one size and depth: (slices, rows, columns), and the share of colour of each."""
    pictures = [(member, picture) for member in ordered[:1] for picture in read_pictures(member)]
    name, first = ordered[0].name, pictures[0][1].pixels
    if first.size * len(ordered) > _MAX_TOTAL_PIXELS:
        raise TooLarge(f"{len(ordered)} pictures of {first.shape[1]} x {first.shape[0]} pixels are more than is read")
    size = (first.shape[1], first.shape[0])
    left = _MAX_TOTAL_PIXELS - first.size * len(pictures)
    for member in ordered[1:]:
        more = read_pictures(member, left, (name, size))
        left -= first.size * len(more)
        pictures += [(member, picture) for picture in more]
    if len(pictures) > len(ordered) > 1:
        raise SeveralSeries(f"{len(ordered)} files hold {len(pictures)} pictures", "Give one of these stacks alone.")
    for member, picture in pictures:
        if picture.pixels.shape != first.shape:
            raise _make_size_error(member.name, picture.pixels.shape[::-1], name, size)
        if picture.pixels.dtype != first.dtype:
            raise InconsistentGeometry(
                f"{member.name} and {name} differ in depth: one has 8 bits, the other more",
                "Give pictures of one kind.",
            )
    return np.stack([picture.pixels for _, picture in pictures]), [picture.coloured_share for _, picture in pictures]


def _find_white_value(stack: Grey) -> float:
    """Return the value of white: by the type for 8 bits, else the least usual depth that holds the highest value."""
    if stack.dtype == np.uint8:
        return 255.0
    top = float(stack.max())
    return next((whole for whole in (1.0, 255.0, 4095.0) if top <= whole), 65535.0)


def _map_window(stack: Grey, whole: float, window: tuple[float, float]) -> NDArray[np.int16]:
    """Map grey to Hounsfield units as the window says: black is its lower end, white its upper end."""
    centre, width = window
    if stack.dtype == np.uint8:
        table = np.rint(np.arange(256) / 255 * width + centre - width / 2).astype(np.int16)
        return table[stack]
    return np.rint(np.clip(stack / whole, 0, 1) * width + centre - width / 2).astype(np.int16)


def _try_hounsfield(stack: Grey) -> tuple[NDArray[np.int16] | None, list[Remark]]:
    """Take values of more than 8 bits as Hounsfield units, plain or shifted: what shows most tissue inside bone."""
    areas = {offset: _measure_enclosed_tissue(stack, offset) for offset in CANDIDATE_OFFSETS_HU}
    offset = max(areas, key=lambda each: areas[each])
    if areas[offset] == 0:
        return None, []
    shift = f", {offset} above" if offset else ""
    message = f"The pictures' values look like Hounsfield units{shift}: they were read so."
    return _subtract_offset(stack, offset), [Remark(code="values-as-hounsfield", severity="info", message=message)]


def _measure_enclosed_tissue(stack: Grey, offset: int) -> float:
    planes = _subtract_offset(stack[:: max(1, len(stack) // 12)], offset)
    seen = [find_enclosed_tissue(plane, TissueThresholds.for_hounsfield()) for plane in planes]
    return sum(found.area_share for found in seen if found is not None and found.is_head_like)


def _subtract_offset(stack: Grey, offset: int) -> NDArray[np.int16]:
    return np.clip(np.rint(stack - offset), -32768, 32767).astype(np.int16)
