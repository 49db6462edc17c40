"""Lesions apart: which pixels of a mask belong together, by where they lie in the patient.

A pixel stands for a prism: its footprint in its slice times the slice's weight along the normal. Pixels of one slice
touch at an edge or a corner (8 neighbours). Pixels of neighbouring slices touch if their footprints, projected along
the normal, overlap or share an edge or a corner. Under gantry tilt, and wherever a table moved sideways, a row of one
slice does not lie above the same row of the next; what counts is the millimetres. Without any such offset these are
the 26 neighbours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.scan import Floats, Planes, Scan

Mask = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]
"""(slices, rows, columns), 0 is background: of the smallest type that holds the numbers, for scans are large."""

BoundingBox = tuple[slice, slice, slice]

MAX_GAP_MM = 15.0
"""A bleed that ends before missing slices and goes on behind them is one. Two slices of 5 mm may be missing: wider than
that lies a ventricle or a lobe, and nothing says that what is seen on both sides is the same."""

# Positions in files are rounded; an offset that is whole but for this much is whole.
_ROUNDING_PX = 1e-3

_IN_SLICE = np.zeros((3, 3, 3), dtype=bool)
_IN_SLICE[1] = True


def label(mask: Mask, scan: Scan) -> tuple[Labels, int]:
    """Number the connected components of a mask, the largest first.

    Size is the sum of the slice weights over the pixels, or the number of pixels where the spacing is not known. Slices
    are neighbours, also where slices between them are missing, up to a gap of :data:`WIDEST_GAP_MM`.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask.
    scan : Scan
        Its scan.

    Returns
    -------
    tuple of (Labels, int)
        Uint8, uint16 or int32, (slices, rows, columns), 0 is background; and the number of components.

    Raises
    ------
    ValueError
        If the mask is not bool or not of the scan's shape, or a slice's position is not finite.
    """
    check_mask(mask, scan)
    held = find_bounding_box(mask)
    if held is None:
        return np.zeros(mask.shape, dtype=np.uint8), 0
    flat, group, count = _connect_slices(mask[held], scan.planes, held[0].start)
    weights = scan.weights_mm if scan.weights_mm is not None else np.ones(len(mask))
    parts = np.zeros(len(group))
    for plane, weight in zip(flat, weights[held[0]], strict=True):
        parts += weight * np.bincount(plane.ravel(), minlength=len(group))
    sizes = np.bincount(group, parts, minlength=count + 1)
    # Rounded, so that equal sizes stay in the order of their slices whatever their sums' last digits are.
    order = np.argsort(-np.round(sizes[1:], 6), kind="stable")
    numbers = np.zeros(count + 1, dtype=np.uint8 if count < 2**8 else np.uint16 if count < 2**16 else np.int32)
    numbers[order + 1] = np.arange(1, count + 1)
    final = numbers[group]
    labels = np.zeros(mask.shape, dtype=numbers.dtype)
    for plane, given in zip(labels[held], flat, strict=True):
        plane[:] = final[given]
    return labels, count


def iterate_components(labels: Labels, scan: Scan) -> Iterator[tuple[Mask, Scan, tuple[slice, slice]]]:
    """Return every component with the part of the scan around it, in the order of the numbers.

    All slices stay, because a slice's weight follows from its neighbours; rows and columns are those of the component.
    Points and volumes measured on the part are those of the whole.

    Parameters
    ----------
    labels : Labels
        (slices, rows, columns), from :func:`label`.
    scan : Scan
        Its scan.

    Yields
    ------
    tuple of (ndarray of bool, Scan, tuple of (slice, slice)), shape (slices, some rows, some columns)
        And a scan of the same shape, which knows no UIDs and no remarks; and where its rows and columns lie in the
        whole.
    """
    planes = scan.planes
    row_mm, column_mm = planes.pixel_spacing_mm
    for index, found in enumerate(find_bounding_boxes(labels)):
        if found is None:
            continue
        slices, rows, columns = found
        corner = rows.start * row_mm * planes.column_cosine + columns.start * column_mm * planes.row_cosine
        part = replace(planes, positions_mm=planes.positions_mm + corner)
        mask = np.zeros((len(labels), rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        mask[slices] = labels[found] == index + 1
        yield (
            mask,
            Scan(
                scan.hu[:, rows, columns],
                part,
                calibrated=scan.calibrated,
                spacing_known=scan.spacing_known,
                kind=scan.kind,
                window=scan.window,
            ),
            (rows, columns),
        )


def find_labelled_pixels(labels: Labels) -> NDArray[np.intp]:
    """Return where components lie, as indices in the flat scan: of truths NumPy finds them twenty times as quickly."""
    # Slice by slice: of a large scan no second volume is made.
    places = [np.flatnonzero(plane != 0) + index * plane.size for index, plane in enumerate(labels)]
    return np.concatenate(places) if places else np.zeros(0, dtype=np.intp)


def find_bounding_boxes(labels: Labels) -> list[BoundingBox | None]:
    """Return the box that just holds each number, 1 first; None for a number that no pixel has.

    SciPy's ``find_objects`` goes through the whole scan; here only through the part that holds components.
    """
    from scipy.ndimage import find_objects

    held = find_bounding_box(labels)
    if held is None:
        return []
    found = find_objects(labels[held])
    return [None if each is None else _shift_box(each, held) for each in found]


def _shift_box(inner: BoundingBox, by: BoundingBox) -> BoundingBox:
    slices, rows, columns = (
        slice(side.start + start.start, side.stop + start.start) for side, start in zip(inner, by, strict=True)
    )
    return slices, rows, columns


def compute_offsets_px(planes: Planes) -> Floats:
    """Return how far each slice lies beside the one below it, in the plane.

    Returns
    -------
    Floats
        (slices - 1, 2), pixels (row, column): the pixel (r, c) of slice k + 1 lies straight above the place (r +
        offset, c + offset) of slice k.
    """
    steps = np.diff(planes.positions_mm, axis=0)
    row_mm, column_mm = planes.pixel_spacing_mm
    return np.column_stack([steps @ planes.column_cosine / row_mm, steps @ planes.row_cosine / column_mm])


def find_adjacent_slices(planes: Planes) -> Mask:
    """(slices - 1,), False at a gap in which slices are missing and that is wider than :data:`WIDEST_GAP_MM`."""
    return ~(planes.gaps_with_missing_slices & (planes.gaps_mm > MAX_GAP_MM))


def check_mask(mask: Mask, scan: Scan) -> None:
    """Raise ValueError if a mask is not bool or not of the scan's shape, or a slice's position is not finite."""
    if mask.dtype != bool:
        raise ValueError(f"the mask must be bool, not {mask.dtype}")
    if mask.shape != scan.shape:
        raise ValueError(f"the mask is {mask.shape}, the scan {scan.shape}")
    if not np.isfinite(scan.planes.positions_mm).all():
        raise ValueError("the position of a slice is not finite")


def find_bounding_box(marked: Mask | Labels) -> BoundingBox | None:
    """Return the box that just holds what is marked; None where nothing is."""
    flat, held = np.zeros(marked.shape[1:], dtype=bool), []
    for index, plane in enumerate(marked):
        if plane.any():
            held.append(index)
            flat |= plane != 0
    if not held:
        return None
    rows, columns = np.flatnonzero(flat.any(1)), np.flatnonzero(flat.any(0))
    return (
        slice(held[0], held[-1] + 1),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def _connect_slices(mask: Mask, planes: Planes, first: int) -> tuple[Labels, NDArray[np.intp], int]:
    """Find the components of the slices from ``first`` on, in the order in which they begin.

    Returns
    -------
    tuple of (Labels, ndarray of intp, int)
        A number for each pixel, the component to which each of these numbers belongs, and how many components there
        are.
    """
    span = slice(first, first + len(mask) - 1)
    offsets, joined = compute_offsets_px(planes)[span], find_adjacent_slices(planes)[span]
    if joined.all() and (np.abs(offsets) < _ROUNDING_PX).all():
        raw, count = _label_array(mask, np.ones((3, 3, 3), dtype=bool))
        return raw, np.arange(count + 1), count
    flat, count = _label_array(mask, _IN_SLICE)
    low, high = np.ceil(-offsets - 1 - _ROUNDING_PX), np.floor(-offsets + 1 + _ROUNDING_PX)
    up = _pair_touching_runs(flat, np.flatnonzero(joined), 1, low.astype(int), high.astype(int))
    down = _pair_touching_runs(flat, np.flatnonzero(joined) + 1, -1, -high.astype(int), -low.astype(int))
    pairs = np.concatenate([up, down], axis=1)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(count + 1, count + 1))
    found, group = connected_components(graph, directed=False)
    return flat, group.astype(np.intp), int(found) - 1


def _label_array(mask: Mask, structure: Mask) -> tuple[Labels, int]:
    """Number what hangs together, in half the memory of SciPy's default where the numbers are few enough."""
    from scipy import ndimage

    for kind in (np.uint16, np.int32):
        made = np.empty(mask.shape, dtype=kind)
        with contextlib.suppress(RuntimeError):  # too many for 16 bits
            return made, int(ndimage.label(mask, structure, output=made))
    raise AssertionError("int32 holds more numbers than a scan has pixels")


def _find_run_starts(plane: Labels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and the columns at which runs begin."""
    begins = plane > 0
    begins[:, 1:] &= plane[:, :-1] == 0
    rows, columns = np.nonzero(begins)
    return rows, columns


def _pair_touching_runs(
    flat: Labels, slices: NDArray[np.intp], step: int, low: NDArray[np.intp], high: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Pair the runs that begin in some slices with what they touch in the next (``step`` 1) or the last (-1).

    Where two runs of a row touch, one of them begins beside the other; so it is enough to look, once upwards and once
    downwards, from where runs begin. ``low`` and ``high`` (slices - 1, 2) are the first and last touching pixel in the
    other slice, counted from the same index.

    Returns
    -------
    ndarray of intp, shape (2, n)
        Two numbers of ``flat`` each.
    """
    if not len(slices):
        return np.zeros((2, 0), dtype=np.intp)
    begins = [_find_run_starts(flat[index]) for index in slices]
    own = np.repeat(slices, [len(rows) for rows, _ in begins])
    rows, columns = (np.concatenate(side) for side in zip(*begins, strict=True))
    gap = own if step > 0 else own - 1
    numbers = flat[own, rows, columns]
    found = [np.zeros((2, 0), dtype=np.intp)]
    for down in range(3):
        for right in range(3):
            row, column = rows + low[gap, 0] + down, columns + low[gap, 1] + right
            inside = (low[gap, 0] + down <= high[gap, 0]) & (low[gap, 1] + right <= high[gap, 1])
            inside &= (row >= 0) & (row < flat.shape[1]) & (column >= 0) & (column < flat.shape[2])
            other = flat[own[inside] + step, row[inside], column[inside]]
            found.append(np.stack([numbers[inside], other])[:, other > 0])
    return np.concatenate(found, axis=1)
