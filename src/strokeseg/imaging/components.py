"""Connected components of a mask, by the positions of pixels in the patient.

A pixel stands for a prism: its footprint in its slice times the slice's weight along the normal. Pixels of one slice
touch at an edge or a corner (8 neighbours). Pixels of neighbouring slices touch if their footprints, projected along
the normal, overlap or share an edge or a corner. Under gantry tilt, or if the table moved sideways, a row of one slice
does not lie above the same row of the next; therefore positions in mm are used. Without any such offset these are the
26 neighbours.
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
"""Shape (slices, rows, columns), 0 is background; the smallest type that holds the numbers, because scans are large."""

BoundingBox = tuple[slice, slice, slice]
"""Slices, rows and columns."""

MAX_GAP_MM = 15.0
"""Widest gap of missing slices across which a component continues. Two slices of 5 mm may be missing; a wider gap can
hold a ventricle or a lobe, and the pixels on both sides may belong to different lesions."""

# Positions in files are rounded: an offset that differs from a whole number by less is a whole number.
_ROUNDING_PX = 1e-3

_IN_SLICE = np.zeros((3, 3, 3), dtype=bool)
_IN_SLICE[1] = True


def label(mask: Mask, scan: Scan) -> tuple[Labels, int]:
    """Number the connected components of a mask, the largest first.

    Size is the sum of the slice weights over the pixels, or the number of pixels if the spacing is unknown. Slices are
    neighbours also across missing slices, up to a gap of :data:`MAX_GAP_MM`.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        The mask.
    scan : Scan
        Its scan.

    Returns
    -------
    labels : ndarray of uint8, uint16 or int32, shape (slices, rows, columns)
        Number of each pixel's component; 0 is background.
    count : int
        Number of components.

    Raises
    ------
    ValueError
        If the mask is not bool or not of the scan's shape, or a slice's position is not finite.
    """
    check_mask(mask, scan)
    box = find_bounding_box(mask)
    if box is None:
        return np.zeros(mask.shape, dtype=np.uint8), 0
    slice_labels, component_of_label, count = _connect_slices(mask[box], scan.planes, box[0].start)
    weights = scan.weights_mm if scan.weights_mm is not None else np.ones(len(mask))
    label_sizes = np.zeros(len(component_of_label))
    for plane, weight in zip(slice_labels, weights[box[0]], strict=True):
        label_sizes += weight * np.bincount(plane.ravel(), minlength=len(component_of_label))
    sizes = np.bincount(component_of_label, label_sizes, minlength=count + 1)
    # Rounded, so that equal sizes keep the order of their slices although the last digits of their sums differ.
    order = np.argsort(-np.round(sizes[1:], 6), kind="stable")
    numbers = np.zeros(count + 1, dtype=np.uint8 if count < 2**8 else np.uint16 if count < 2**16 else np.int32)
    numbers[order + 1] = np.arange(1, count + 1)
    number_of_label = numbers[component_of_label]
    labels = np.zeros(mask.shape, dtype=numbers.dtype)
    for plane, plane_labels in zip(labels[box], slice_labels, strict=True):
        plane[:] = number_of_label[plane_labels]
    return labels, count


def iterate_components(labels: Labels, scan: Scan) -> Iterator[tuple[Mask, Scan, tuple[slice, slice]]]:
    """Iterate over the components with the part of the scan around each, in the order of their numbers.

    All slices are kept, because a slice's weight follows from its neighbours; rows and columns are those of the
    component. Points and volumes measured on the part are those of the whole.

    Parameters
    ----------
    labels : ndarray of int, shape (slices, rows, columns)
        Labels from :func:`label`.
    scan : Scan
        Their scan.

    Yields
    ------
    mask : ndarray of bool, shape (slices, part rows, part columns)
        The component.
    part : Scan
        The scan cropped to the same shape, without UIDs and remarks.
    box : tuple of (slice, slice)
        Rows and columns of the part in the whole scan.
    """
    planes = scan.planes
    row_mm, column_mm = planes.pixel_spacing_mm
    for index, box in enumerate(find_bounding_boxes(labels)):
        if box is None:
            continue
        slices, rows, columns = box
        corner = rows.start * row_mm * planes.column_cosine + columns.start * column_mm * planes.row_cosine
        mask = np.zeros((len(labels), rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        mask[slices] = labels[box] == index + 1
        part = Scan(
            scan.hu[:, rows, columns],
            replace(planes, positions_mm=planes.positions_mm + corner),
            calibrated=scan.calibrated,
            spacing_known=scan.spacing_known,
            kind=scan.kind,
            window=scan.window,
        )
        yield mask, part, (rows, columns)


def find_labelled_pixels(labels: Labels) -> NDArray[np.intp]:
    """Return the pixels of all components.

    Parameters
    ----------
    labels : ndarray of int, shape (slices, rows, columns)
        Labels from :func:`label`.

    Returns
    -------
    ndarray of intp, shape (n,)
        Indices in the flat scan.
    """
    # NumPy finds non-zero elements of booleans twenty times as fast as of integers. Slice by slice, so that a large
    # volume is not copied.
    indices = [np.flatnonzero(plane != 0) + index * plane.size for index, plane in enumerate(labels)]
    return np.concatenate(indices) if indices else np.zeros(0, dtype=np.intp)


def find_bounding_boxes(labels: Labels) -> list[BoundingBox | None]:
    """Return the bounding box of each number, from 1 on; None for a number without pixels.

    SciPy's ``find_objects`` is applied only to the part of the scan that contains components.

    Parameters
    ----------
    labels : ndarray of int, shape (slices, rows, columns)
        Labels from :func:`label`.

    Returns
    -------
    list of (tuple of slice or None)
        Slices, rows and columns of each component.
    """
    from scipy.ndimage import find_objects

    whole_box = find_bounding_box(labels)
    if whole_box is None:
        return []
    boxes = find_objects(labels[whole_box])
    return [None if box is None else _shift_box(box, whole_box) for box in boxes]


def find_bounding_box(pixels: Mask | Labels) -> BoundingBox | None:
    """Return the bounding box of all non-zero pixels; None if there are none.

    Parameters
    ----------
    pixels : ndarray of bool or int, shape (slices, rows, columns)
        Mask or labels.

    Returns
    -------
    tuple of (slice, slice, slice) or None
        Slices, rows and columns.
    """
    projection, slices = np.zeros(pixels.shape[1:], dtype=bool), []
    for index, plane in enumerate(pixels):
        if plane.any():
            slices.append(index)
            projection |= plane != 0
    if not slices:
        return None
    rows, columns = np.flatnonzero(projection.any(1)), np.flatnonzero(projection.any(0))
    return (
        slice(slices[0], slices[-1] + 1),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def _shift_box(box: BoundingBox, outer: BoundingBox) -> BoundingBox:
    slices, rows, columns = (
        slice(side.start + outer_side.start, side.stop + outer_side.start)
        for side, outer_side in zip(box, outer, strict=True)
    )
    return slices, rows, columns


def compute_offsets_px(planes: Planes) -> Floats:
    """Compute the in-plane offset of each slice from the slice below.

    Parameters
    ----------
    planes : Planes
        Planes of the scan.

    Returns
    -------
    ndarray of float64, shape (slices - 1, 2)
        Pixels (row, column): the pixel (r, c) of slice k + 1 lies above the point (r + offset, c + offset) of slice k.
    """
    steps = np.diff(planes.positions_mm, axis=0)
    row_mm, column_mm = planes.pixel_spacing_mm
    return np.column_stack([steps @ planes.column_cosine / row_mm, steps @ planes.row_cosine / column_mm])


def find_adjacent_slices(planes: Planes) -> Mask:
    """Determine across which gaps components continue.

    Parameters
    ----------
    planes : Planes
        Planes of the scan.

    Returns
    -------
    ndarray of bool, shape (slices - 1,)
        False at a gap with missing slices that is wider than :data:`MAX_GAP_MM`.
    """
    return ~(planes.gaps_with_missing_slices & (planes.gaps_mm > MAX_GAP_MM))


def check_mask(mask: Mask, scan: Scan) -> None:
    """Raise ValueError if a mask is not bool or not of the scan's shape, or a slice's position is not finite."""
    if mask.dtype != bool:
        raise ValueError(f"the mask must be bool, not {mask.dtype}")
    if mask.shape != scan.shape:
        raise ValueError(f"the mask is {mask.shape}, the scan {scan.shape}")
    if not np.isfinite(scan.planes.positions_mm).all():
        raise ValueError("the position of a slice is not finite")


def _connect_slices(mask: Mask, planes: Planes, first: int) -> tuple[Labels, NDArray[np.intp], int]:
    """Find the components of the slices from ``first`` on, in the order in which they begin.

    Returns
    -------
    slice_labels : ndarray of int, shape (slices, rows, columns)
        Labels of the pixels that touch within a slice (of whole components if slices have no offset).
    component_of_label : ndarray of intp, shape (labels + 1,)
        Component of each label.
    count : int
        Number of components.
    """
    span = slice(first, first + len(mask) - 1)
    offsets, is_adjacent = compute_offsets_px(planes)[span], find_adjacent_slices(planes)[span]
    if is_adjacent.all() and (np.abs(offsets) < _ROUNDING_PX).all():
        slice_labels, count = _label_array(mask, np.ones((3, 3, 3), dtype=bool))
        return slice_labels, np.arange(count + 1), count
    slice_labels, count = _label_array(mask, _IN_SLICE)
    low, high = np.ceil(-offsets - 1 - _ROUNDING_PX), np.floor(-offsets + 1 + _ROUNDING_PX)
    adjacent = np.flatnonzero(is_adjacent)
    up = _pair_touching_labels(slice_labels, adjacent, 1, low.astype(int), high.astype(int))
    down = _pair_touching_labels(slice_labels, adjacent + 1, -1, -high.astype(int), -low.astype(int))
    pairs = np.concatenate([up, down], axis=1)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(count + 1, count + 1))
    group_count, component_of_label = connected_components(graph, directed=False)
    return slice_labels, component_of_label.astype(np.intp), int(group_count) - 1


def _label_array(mask: Mask, structure: Mask) -> tuple[Labels, int]:
    """Label connected pixels, in half the memory of SciPy's default if 16 bits hold the numbers."""
    from scipy import ndimage

    for dtype in (np.uint16, np.int32):
        labels = np.empty(mask.shape, dtype=dtype)
        with contextlib.suppress(RuntimeError):  # too many numbers for 16 bits
            return labels, int(ndimage.label(mask, structure, output=labels))
    raise AssertionError("int32 holds more numbers than a scan has pixels")


def _find_run_starts(plane: Labels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows and the columns at which runs begin within a row."""
    starts = plane > 0
    starts[:, 1:] &= plane[:, :-1] == 0
    rows, columns = np.nonzero(starts)
    return rows, columns


def _pair_touching_labels(
    slice_labels: Labels, slices: NDArray[np.intp], step: int, low: NDArray[np.intp], high: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Pair the labels of some slices with the labels that they touch in the next (``step`` 1) or previous slice (-1).

    If two runs of a row touch, one of them begins beside the other. It is therefore enough to look, once upwards and
    once downwards, from the pixels at which runs begin.

    Parameters
    ----------
    slice_labels : ndarray of int, shape (slices, rows, columns)
        Labels of the pixels that touch within a slice.
    slices : ndarray of intp
        Slices whose labels are paired.
    step : {1, -1}
        Direction of the other slice.
    low, high : ndarray of intp, shape (slices - 1, 2)
        First and last touching pixel in the other slice, relative to the same index.

    Returns
    -------
    ndarray of intp, shape (2, n)
        Pairs of labels.
    """
    if not len(slices):
        return np.zeros((2, 0), dtype=np.intp)
    starts = [_find_run_starts(slice_labels[index]) for index in slices]
    own = np.repeat(slices, [len(rows) for rows, _ in starts])
    rows, columns = (np.concatenate(side) for side in zip(*starts, strict=True))
    gap = own if step > 0 else own - 1
    numbers = slice_labels[own, rows, columns]
    pairs = [np.zeros((2, 0), dtype=np.intp)]
    for down in range(3):
        for right in range(3):
            row, column = rows + low[gap, 0] + down, columns + low[gap, 1] + right
            inside = (low[gap, 0] + down <= high[gap, 0]) & (low[gap, 1] + right <= high[gap, 1])
            inside &= (row >= 0) & (row < slice_labels.shape[1]) & (column >= 0) & (column < slice_labels.shape[2])
            other = slice_labels[own[inside] + step, row[inside], column[inside]]
            pairs.append(np.stack([numbers[inside], other])[:, other > 0])
    return np.concatenate(pairs, axis=1)
