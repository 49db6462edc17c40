"""Decode the slices of a DICOM series into one scan, every slice on its own plane."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import StrokesegError, TooLarge
from strokeseg.reading import limits
from strokeseg.reading.dicom import source_attributes
from strokeseg.reading.dicom.decoding import decode_hounsfield, make_damaged_error
from strokeseg.reading.dicom.header import SliceHeader
from strokeseg.reading.dicom.pixel_data import EncodedFrame, FrameReader
from strokeseg.reading.dicom.series import Series, make_conflict_error, require_plane
from strokeseg.reading.head_check import count_samples
from strokeseg.reading.head_detection import sample_slice_indices
from strokeseg.reading.progress import Progress
from strokeseg.scan import Planes, Scan

_MAX_THREADS = 16


def read_series(series: Series, progress: Progress | None = None) -> Scan:
    """Read one series in Hounsfield units, every slice on its own plane.

    Parameters
    ----------
    series : Series
        Slices that form one volume.
    progress : callable, optional
        Called with (slices read, total slices).

    Returns
    -------
    Scan
        The scan, not yet checked by the gate.

    Raises
    ------
    NoHounsfield, InconsistentGeometry, UnreadableFile, UnsupportedTransferSyntax, TooLarge
        `no-hounsfield`, `geometry`, `unreadable`, `transfer-syntax`, `too-large`.
    """
    slices, first = series.slices, require_plane(series.slices[0])
    rows, columns = slices[0].shape
    if rows * columns > limits.MAX_SLICE_PIXELS or rows * columns * len(slices) > limits.MAX_VOXELS:
        raise TooLarge(
            f"{len(slices)} slices of {rows} x {columns} pixels; at most {limits.MAX_VOXELS:,} voxels are read"
        )
    planes = Planes(
        series.positions_mm, first.row_cosine, first.column_cosine, first.pixel_spacing_mm, first.thickness_mm
    )
    axis_change, planes = _make_axial_upright(planes, slices[0].shape)
    ordered = slices[::-1] if axis_change.reverse else slices
    hu = _decode_volume(series, axis_change, progress)
    return Scan(
        hu,
        planes,
        kind="dicom",
        series_uid=slices[0].series_uid or None,
        series_name=series.name or slices[0].series_uid or None,
        sop_instance_uids=tuple(header.sop_uid for header in ordered),
        remarks=series.remarks,
        source=source_attributes.build_source(ordered, transposed=axis_change.transpose, mirrored=axis_change.mirror),
    )


def read_preview(series: Series) -> Scan:
    """Read evenly spaced slices: enough to recognize a head, as the gate does; raises as :func:`read_series`."""
    extent_mm = float(np.linalg.norm(np.ptp(series.positions_mm, axis=0)))
    indices = sample_slice_indices(len(series.slices), count_samples(extent_mm))
    slices = tuple(series.slices[index] for index in indices)
    return read_series(replace(series, slices=slices, duplicates=(), remarks=()))


@dataclass(frozen=True)
class _AxisChange:
    """How stored slices become the scan's slices, by whole axes: nothing is resampled.

    Attributes
    ----------
    transpose : bool, default False
        Rows and columns are exchanged.
    mirror : bool, default False
        Then every row is reversed.
    reverse : bool, default False
        The order of the slices is reversed.
    """

    transpose: bool = False
    mirror: bool = False
    reverse: bool = False

    def apply(self, stored: NDArray[np.int16]) -> NDArray[np.int16]:
        """Transpose and mirror the pixels of one slice."""
        pixels = stored.T if self.transpose else stored
        return pixels[:, ::-1] if self.mirror else pixels


def _make_axial_upright(planes: Planes, shape: tuple[int, int]) -> tuple[_AxisChange, Planes]:
    """Return the axis change for slices of a shape, and the planes after it.

    Rows run from side to side: if they are stored with a quarter turn, rows and columns are exchanged. This reverses
    the normal, and with it the order of the slices, which are sorted along it. Then the normal points to the head, so
    that the slices begin at the foot end: if it points to the feet, every row is reversed, the position moves to the
    pixel that is now the first, and the row cosine is negated.
    """
    change = _AxisChange()
    if abs(planes.row_cosine[0]) < abs(planes.column_cosine[0]):
        change = _AxisChange(transpose=True, reverse=True)
        planes = Planes(
            planes.positions_mm[::-1].copy(),
            planes.column_cosine,
            planes.row_cosine,
            planes.pixel_spacing_mm[::-1],
            planes.thickness_mm,
        )
    if planes.normal[2] < 0:
        change = replace(change, mirror=True, reverse=not change.reverse)
        columns = shape[0] if change.transpose else shape[1]
        row_vector = (columns - 1) * planes.pixel_spacing_mm[1] * planes.row_cosine
        positions = (planes.positions_mm + row_vector)[::-1].copy()
        planes = replace(planes, positions_mm=positions, row_cosine=-planes.row_cosine)
    return change, planes


def _decode_volume(series: Series, change: _AxisChange, progress: Progress | None) -> NDArray[np.int16]:
    """Decode the slices directly into the volume, with few slices in memory beside it.

    This thread reads the files in their order in the archive; other threads decode, which releases the interpreter's
    lock. Slices at a position that another slice has are decoded last and compared.
    """
    count = len(series.slices)
    volume: NDArray[np.int16] | None = None

    def decode_into(frame: EncodedFrame, index: int) -> None:
        store(index, change.apply(decode_hounsfield(frame, series.slices[index])))

    def store(index: int, pixels: NDArray[np.int16]) -> None:
        assert volume is not None
        volume[count - 1 - index if change.reverse else index] = pixels

    order = sorted(range(count), key=lambda index: _reading_order(series.slices[index]))
    pending: deque[Future[None]] = deque()
    threads = _count_threads()
    with FrameReader() as reader, ThreadPoolExecutor(threads) as pool:
        try:
            for done, index in enumerate(order):
                frame = _read_frame(reader, series.slices[index])
                if volume is None:  # allocated after one slice was decoded: a wrong header reserves no memory
                    first = change.apply(decode_hounsfield(frame, series.slices[index]))
                    volume = np.empty((count, *first.shape), dtype=np.int16)
                    store(index, first)
                else:
                    pending.append(pool.submit(copy_context().run, decode_into, frame, index))
                if len(pending) > 2 * threads:
                    pending.popleft().result()
                if progress is not None:
                    progress(done + 1, count)
            while pending:
                pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
        assert volume is not None
        for duplicate, index in series.duplicates:
            pixels = change.apply(decode_hounsfield(_read_frame(reader, duplicate), duplicate))
            if not np.array_equal(pixels, volume[count - 1 - index if change.reverse else index]):
                raise make_conflict_error(series.slices[index], duplicate)
    return volume


def _reading_order(header: SliceHeader) -> tuple[int, str, int]:
    return header.file.order, header.file.name, header.frame_index


def _read_frame(reader: FrameReader, header: SliceHeader) -> EncodedFrame:
    try:
        return reader.read(header.file, header.pixel_format, header.frame_index)
    except (StrokesegError, MemoryError):
        raise
    except Exception as error:  # an OSError, or one of a dozen errors of a damaged archive
        raise make_damaged_error(header.name, error) from None


def _count_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_THREADS)
