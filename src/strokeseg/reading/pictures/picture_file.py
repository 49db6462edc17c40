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

_MULTI_PAGE_ENDINGS = (".tif", ".tiff")
_MAX_PAGES = 4096
_COLOUR_DIFFERENCE = 24
# Bytes of memory for a pixel: the pictures, their stack and its Hounsfield units, because the memory of many freed
# pictures may not return to the system (14.5 measured with more bits); and, for one picture at a time, its colours and
# their conversion to grey.
_BYTES_OF_8_BITS, _BYTES_OF_MORE_BITS, _DECODING_BYTES = 4, 15, 28
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


def read_pictures(file: InputFile, file_count: int = 1, expected_size: ExpectedSize | None = None) -> list[Picture]:
    """Read one picture, or all pictures of a TIFF.

    Parameters
    ----------
    file : InputFile
        The file.
    file_count : int, default 1
        Number of files of this size that will be read as one stack.
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
    file.check_bytes(limits.MAX_PICTURE_BYTES)
    try:
        # A member of an archive is held in memory: to go back in it would inflate it again.
        with (
            io.BytesIO(file.read()) if file.path is None else file.open() as stream,
            Image.open(stream, formats=PILLOW_FORMATS) as image,
        ):
            sizes = _read_page_sizes(image, file.name)
            _check_sizes(sizes, file.name, expected_size)
            held_bytes = file.measure_bytes() if file.path is None else 0
            _check_memory(sizes, image.mode, file.name, file_count, held_bytes)
            return [_convert_picture(page, file.name) for page in ImageSequence.Iterator(image)]
    except (StrokesegError, MemoryError):
        raise
    except Image.DecompressionBombError:  # Pillow reads the size before StrokeSeg can
        raise TooLarge(f"{file.name}: more than 4096 x 4096 pixels; at most these are read") from None
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


def _check_sizes(sizes: list[tuple[int, int]], name: str, expected_size: ExpectedSize | None) -> None:
    """Refuse too many pixels, or a size other than the expected one, before a picture is decoded."""
    expected_name, expected = expected_size or (name, sizes[0])
    for columns, rows in sizes:
        if columns * rows > limits.MAX_SLICE_PIXELS:
            raise TooLarge(f"{name}: {columns} x {rows} pixels; at most 4096 x 4096 are read")
        if expected not in ((columns, rows), (rows, columns)):  # EXIF may rotate a picture by 90 degrees
            raise make_size_error(name, (columns, rows), expected_name, expected)


def _check_memory(sizes: list[tuple[int, int]], mode: str, name: str, file_count: int, held_bytes: int) -> None:
    """Refuse a stack that does not fit into the memory for reading, before a picture is decoded."""
    count, pixels = len(sizes) * file_count, max(columns * rows for columns, rows in sizes)
    pixel_bytes = _BYTES_OF_MORE_BITS if mode.startswith(("I", "F")) else _BYTES_OF_8_BITS
    max_count = (limits.MAX_READING_BYTES - held_bytes - _DECODING_BYTES * pixels) // (pixel_bytes * pixels)
    if count > max_count:
        raise TooLarge(
            f"{name}: {count:,} pictures of {pixels:,} pixels; at most {max(0, max_count)} of this size are read in all"
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
