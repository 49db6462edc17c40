"""Read picture files as grey levels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, ImageSequence

from strokeseg.errors import InconsistentGeometry, NotHead, StrokesegError, TooLarge, UnreadableFile
from strokeseg.reading import limits
from strokeseg.reading.input_file import InputFile

# Pillow passes EPS files to Ghostscript, whatever their name: only these formats are opened.
PILLOW_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MAX_TOTAL_PIXELS = 2**29

_MULTI_PAGE_ENDINGS = (".tif", ".tiff")
_MAX_PAGES = 4096
_COLOUR_DIFFERENCE = 24
_MAX_COLOURED_SHARE = 0.02

Grey = NDArray[Any]
ExpectedSize = tuple[str, tuple[int, int]]
"""Name and (columns, rows) of the picture whose size others must have."""


@dataclass(frozen=True)
class Picture:
    """A picture in grey.

    Attributes
    ----------
    pixels : ndarray of uint8 or float32, shape (rows, columns)
        Uint8 for pictures of 8 bits, else float32 in the picture's own values.
    coloured_share : float
        Share of the pixels that had a colour.
    """

    pixels: Grey
    coloured_share: float


def read_pictures(
    file: InputFile, max_pixels: int = MAX_TOTAL_PIXELS, expected_size: ExpectedSize | None = None
) -> list[Picture]:
    """Read one picture, or all pictures of a TIFF.

    Parameters
    ----------
    file : InputFile
        The file.
    max_pixels : int, default 2**29
        Limit on the pixels of all pictures together.
    expected_size : tuple of (str, tuple of (int, int)), optional
        Name and (columns, rows) of the picture whose size the pictures must have.

    Returns
    -------
    list of Picture
        One for each page.

    Raises
    ------
    UnreadableFile, TooLarge, NotHead, InconsistentGeometry
        `unreadable`, `too-large`; `not-head` if more than 2 % of the pixels have a colour; `geometry` if the size
        differs from the expected one.
    """
    data = file.read_within(limits.MAX_PICTURE_BYTES)
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            _check_sizes(_read_page_sizes(image, file.name), file.name, max_pixels, expected_size)
            return [_convert_picture(page, file.name) for page in ImageSequence.Iterator(image)]
    except StrokesegError:
        raise
    except Exception as error:  # Pillow's decoders may raise any error on damaged bytes
        raise UnreadableFile(
            f"{file.name}: not a readable picture ({type(error).__name__})", "Copy or export it again."
        ) from None


def make_size_error(
    name: str, size: tuple[int, int], expected_name: str, expected: tuple[int, int]
) -> InconsistentGeometry:
    """Return the error (`geometry`) for a picture of another size; sizes are (columns, rows)."""
    return InconsistentGeometry(
        f"{name}: {size[0]} x {size[1]} pixels, {expected_name} has {expected[0]} x {expected[1]}",
        "Give pictures of one size, one series alone.",
    )


def _read_page_sizes(image: Image.Image, name: str) -> list[tuple[int, int]]:
    """Return (columns, rows) of each page, from the headers alone."""
    has_pages = image.format == "TIFF" and name.lower().endswith(_MULTI_PAGE_ENDINGS)
    if not has_pages and getattr(image, "n_frames", 1) > 1:
        raise UnreadableFile(f"{name}: holds several pictures", "Give one picture a file, or a TIFF.")
    sizes = [image.size]
    while has_pages:
        try:
            image.seek(len(sizes))
        except EOFError:
            break
        sizes.append(image.size)
        if len(sizes) > _MAX_PAGES:
            raise TooLarge(f"{name}: more than {_MAX_PAGES:,} pictures")
    return sizes


def _check_sizes(sizes: list[tuple[int, int]], name: str, max_pixels: int, expected_size: ExpectedSize | None) -> None:
    """Refuse too many pixels, or a size other than the expected one, before a picture is decoded."""
    expected_name, expected = expected_size or (name, sizes[0])
    for columns, rows in sizes:
        if columns * rows > limits.MAX_SLICE_PIXELS:
            raise TooLarge(f"{name}: {columns} x {rows} pixels; at most 4096 x 4096 are read")
        if expected not in ((columns, rows), (rows, columns)):  # EXIF may rotate a picture by 90 degrees
            raise make_size_error(name, (columns, rows), expected_name, expected)
    if (pixels := sum(columns * rows for columns, rows in sizes)) > max_pixels:
        raise TooLarge(
            f"{name}: {len(sizes)} pictures of {pixels:,} pixels; at most {MAX_TOTAL_PIXELS:,} are read in all"
        )


def _convert_picture(image: Image.Image, name: str) -> Picture:
    upright, coloured_share = _to_upright_grey(image, name)
    pixels = np.asarray(upright)
    if pixels.dtype == np.uint8:
        return Picture(pixels, coloured_share)
    values = pixels.astype(np.float32)
    if not np.isfinite(values).all():
        raise UnreadableFile(f"{name}: contains values that are not finite", "Export the picture again.")
    return Picture(values, coloured_share)


def _to_upright_grey(image: Image.Image, name: str) -> tuple[Image.Image, float]:
    """Return the picture in grey, turned by its EXIF orientation, on black, and the share of coloured pixels."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")) or image.mode == "L":
        return image, 0.0
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    red, green, blue = image.convert("RGB").split()
    highest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    lowest = ImageChops.darker(ImageChops.darker(red, green), blue)
    histogram = ImageChops.subtract(highest, lowest).histogram()
    coloured_share = sum(histogram[_COLOUR_DIFFERENCE + 1 :]) / sum(histogram)
    if coloured_share > _MAX_COLOURED_SHARE:
        raise NotHead(f"{name}: a colour picture, not a CT slice in grey")
    return image.convert("L"), coloured_share
