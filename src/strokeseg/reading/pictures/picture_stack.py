"""Read pictures of CT slices as a scan: no Hounsfield units, and no spacing unless it is given."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import InconsistentGeometry, SeveralSeries, UsageError
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.pictures.annotations import check_annotations
from strokeseg.reading.pictures.grey_levels import (
    check_window,
    estimate_window,
    find_white_value,
    map_window,
    try_hounsfield,
)
from strokeseg.reading.pictures.picture_file import (
    ExpectedSize,
    Grey,
    Picture,
    make_size_error,
    read_pictures,
)
from strokeseg.reading.pictures.slice_order import estimate_order
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.scan_options import PictureOptions, SliceOrder, parse_order

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def read_stack(files: list[InputFile], options: PictureOptions) -> Scan:
    """Read one picture, a TIFF of several, or pictures in the natural order of their names as one stack.

    The slices of the scan run from the lowest to the highest: a stack that runs the other way is turned.

    Parameters
    ----------
    files : list of InputFile
        The pictures.
    options : PictureOptions
        What the caller states about them.

    Returns
    -------
    Scan
        Uncalibrated scan.

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NotHead, SeveralSeries, NoHounsfield
        `unreadable`, `too-large`; `geometry` if sizes or depths differ; `not-head` for a colour picture;
        `several-series` if they lie in several folders; `no-hounsfield` if the stated window cannot be right.
    UsageError
        `usage`, for a window or spacing that is not above zero, or an unknown order.
    """
    window, spacing_mm, order = _check_options(options)
    ordered = sorted(files, key=lambda file: natural_sort_key(file.name))
    _check_one_folder(ordered)
    stack, coloured_shares = _stack_pictures(ordered)
    hu, window, remarks = _convert_to_hounsfield(stack, coloured_shares, window)
    if len(stack) > 1:
        hu, remark = _put_lowest_first(hu, window, order)
        remarks.append(remark)
    message = "Grey levels of pictures are not Hounsfield units: densities are not given."
    remarks.append(Remark(code="uncalibrated", severity="warning", message=message))
    message = "Pictures do not state sides: the radiological view is assumed, the patient's left on the right."
    remarks.append(Remark(code="assumed-sides", severity="info", message=message))
    planes = Scan.from_array(hu, spacing_mm).planes
    window = None if window is None else (float(window[0]), float(window[1]))
    return Scan(hu, planes, False, spacing_mm is not None, "pictures", window=window, remarks=tuple(remarks))


def _put_lowest_first(
    hu: NDArray[np.int16], window: tuple[float, float] | None, order: SliceOrder
) -> tuple[NDArray[np.int16], Remark]:
    """Turn a stack that runs from the highest slice to the lowest, as stated or by its anatomy; say so in a remark."""
    found = estimate_order(hu, window)
    if order == SliceOrder.auto:
        if not (found.is_lowest_first or found.is_highest_first):
            message = (
                "Whether the first picture is the lowest or the highest slice could not be found from the anatomy: the "
                "first was taken as the lowest. State it with --order if it is not."
            )
            return hu, Remark(code="assumed-order", severity="info", message=message)
        is_highest_first, source = found.is_highest_first, f"by the anatomy (probability {found.sure:.2f})"
    else:
        is_highest_first, source = order == SliceOrder.highest_first, "as stated"
        if found.is_lowest_first if is_highest_first else found.is_highest_first:
            message = (
                f"The stated order of the slices, {order}, contradicts the anatomy (probability of the opposite "
                f"{found.sure:.2f}). The stated order was used."
            )
            remark = Remark(code="slice-order", severity="warning", message=message)
            return (np.ascontiguousarray(hu[::-1]) if is_highest_first else hu), remark
    if not is_highest_first:
        message = f"The first picture is the lowest slice, {source}."
        return hu, Remark(code="slice-order", severity="info", message=message)
    message = f"The first picture is the highest slice, {source}. The stack was turned: the last picture is slice 1."
    return np.ascontiguousarray(hu[::-1]), Remark(code="slice-order", severity="repaired", message=message)


def natural_sort_key(name: str) -> list[tuple[int, int | str]]:
    """Return a key that sorts numbers in names by their value: 077_2 before 077_10."""
    parts = re.split(r"([0-9]+)", str(PurePosixPath(name.replace("\\", "/"))).lower())
    return [(0, int(part[:4000])) if part.isdecimal() else (1, part) for part in parts]


def _convert_to_hounsfield(
    stack: Grey, coloured_shares: list[float], window: tuple[float, float] | None
) -> tuple[NDArray[np.int16], tuple[float, float] | None, list[Remark]]:
    """Return Hounsfield units, the window (None if the values are Hounsfield units themselves), and remarks."""
    white = find_white_value(stack)
    if window is None and stack.dtype != np.uint8:
        hu, remarks = try_hounsfield(stack)
        if hu is not None:
            return hu, None, remarks
    remarks = check_annotations(stack, white, coloured_shares)
    if window is None:
        window = estimate_window(stack, white)
        message = f"The window was estimated from the grey levels: centre {window[0]:g}, width {window[1]:g}."
        remarks.append(Remark(code="window-estimated", severity="info", message=message))
    elif contradicted := check_window(stack, white, window):
        remarks.append(contradicted)
    return map_window(stack, white, window), window, remarks


def _check_options(
    options: PictureOptions,
) -> tuple[tuple[float, float] | None, tuple[float, float, float] | None, SliceOrder]:
    window, spacing_mm, order = options
    if window is not None and not (
        _are_finite_numbers(window, 2) and -2000 < window[0] < 4000 and 0 < window[1] < 8000
    ):
        raise UsageError(f"--window {window}: must be centre and width in HU, the width above 0")
    if spacing_mm is not None and not (
        _are_finite_numbers(spacing_mm, 3) and all(0 < value < 1000 for value in spacing_mm)
    ):
        raise UsageError(f"--spacing {spacing_mm}: must be slice, row and column, lengths in mm above 0")
    try:
        return window, spacing_mm, parse_order(order)
    except ValueError as error:
        raise UsageError(f"--order {error}") from None


def _are_finite_numbers(values: Any, count: int) -> bool:
    """Whether a caller's value is a sequence of ``count`` finite numbers."""
    is_sequence = isinstance(values, list | tuple | np.ndarray) and len(values) == count
    return is_sequence and all(isinstance(value, int | float | np.number) and np.isfinite(value) for value in values)


def _check_one_folder(files: list[InputFile]) -> None:
    folders: dict[str, int] = {}
    for file in files:
        parent = PurePosixPath(file.name.replace("\\", "/")).parent.as_posix()
        folders[parent] = folders.get(parent, 0) + 1
    if len(folders) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in list(folders.items())[:6])
        raise SeveralSeries(f"pictures lie in {len(folders)} folders: {listed}", "Give one of these folders.")


def _stack_pictures(files: list[InputFile]) -> tuple[Grey, list[float]]:
    """Read pictures of one size and depth.

    Returns
    -------
    stack : ndarray, shape (slices, rows, columns)
        Grey levels.
    coloured_shares : list of float
        Share of coloured pixels of each picture.
    """
    first_file, *other_files = files
    pictures = _read_file(first_file, len(files))
    first = pictures[0].pixels
    size = (first.shape[1], first.shape[0])
    for file in other_files:
        pictures += _read_file(file, len(files), (first_file.name, size))
        picture = pictures[-1].pixels
        if picture.shape != first.shape:
            raise make_size_error(file.name, picture.shape[::-1], first_file.name, size)
        if picture.dtype != first.dtype:
            raise InconsistentGeometry(
                f"{file.name} and {first_file.name} differ in depth: one has 8 bits, the other more",
                "Give pictures of the same depth.",
            )
    return np.stack([picture.pixels for picture in pictures]), [picture.coloured_share for picture in pictures]


def _read_file(file: InputFile, file_count: int, expected_size: ExpectedSize | None = None) -> list[Picture]:
    """Read a file of a stack; it may hold several pictures only if it is the only file."""
    pictures = read_pictures(file, file_count, expected_size)
    if file_count > 1 and len(pictures) > 1:
        message = f"{file.name}: holds {len(pictures)} pictures, beside {file_count - 1} other files"
        raise SeveralSeries(message, "Give one of these stacks alone.")
    return pictures
