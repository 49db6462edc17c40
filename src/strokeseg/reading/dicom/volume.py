"""A DICOM CT series: every slice on its own plane, in Hounsfield units."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import StrokesegError, TooLarge
from strokeseg.reading.dicom import series, source_attributes
from strokeseg.reading.dicom.decoding import decode_hounsfield, make_damaged_error
from strokeseg.reading.dicom.header import SliceHeader
from strokeseg.reading.dicom.pixel_data import EncodedFrame, FrameReader
from strokeseg.reading.dicom.series import Series
from strokeseg.reading.input_file import MAX_PIXELS, MAX_VOXELS
from strokeseg.scan import Planes, Scan

Progress = Callable[[int, int], None]

_PREVIEW_SLICES = 12
_MAX_THREADS = 16


def read_series(found: Series, progress: Progress | None = None) -> Scan:
    """Read one series: every slice on its own plane, in Hounsfield units.

    Parameters
    ----------
    found : Series
        Slices that fit together.
    progress : Progress, optional
        Is called with (slices done, slices in all).

    Raises
    ------
    NoHounsfield, InconsistentGeometry, UnreadableFile, UnsupportedTransferSyntax, TooLarge
        `no-hounsfield`, `geometry`, `unreadable`, `transfer-syntax`, `too-large`.
    """
    slices, first = found.slices, series.require_plane(found.slices[0])
    rows, columns = slices[0].shape
    if rows * columns > MAX_PIXELS or rows * columns * len(slices) > MAX_VOXELS:
        raise TooLarge(f"{len(slices)} slices of {rows} x {columns} pixels; at most {MAX_VOXELS:,} voxels are read")
    planes = Planes(
        found.positions_mm, first.row_cosine, first.column_cosine, first.pixel_spacing_mm, first.thickness_mm
    )
    turn, planes = _make_axial_upright(planes, slices[0].shape)
    ours = slices[::-1] if turn.reverse else slices
    volume = _decode_volume(found, turn, progress)
    return Scan(
        volume,
        planes,
        kind="dicom",
        series_uid=slices[0].series_uid or None,
        sop_instance_uids=tuple(item.sop_uid for item in ours),
        remarks=found.remarks,
        source=source_attributes.build_source(ours, transposed=turn.transpose, mirrored=turn.mirror),
    )


def read_preview(found: Series) -> Scan:
    """Read up to twelve slices, spread over a series: enough to tell a head; raises as :func:`scan`."""
    picked = np.unique(
        np.linspace(0, len(found.slices) - 1, min(len(found.slices), _PREVIEW_SLICES)).round().astype(int)
    )
    return read_series(replace(found, slices=tuple(found.slices[index] for index in picked), duplicates=(), remarks=()))


@dataclass(frozen=True)
class _AxisChange:
    """How stored slices become ours, by whole axes: nothing is resampled and no pixel changes its place in the patient.

    Parameters
    ----------
    across : object
        Rows and columns change places.
    flip : object
        Every row is turned end for end.
    backwards : object
        The last slice is the first.
    """

    transpose: bool = False
    mirror: bool = False
    reverse: bool = False

    def apply(self, stored: NDArray[np.int16]) -> NDArray[np.int16]:
        """Turn one slice's pixels."""
        turned = stored.T if self.transpose else stored
        return turned[:, ::-1] if self.mirror else turned


def _make_axial_upright(planes: Planes, shape: tuple[int, int]) -> tuple[_AxisChange, Planes]:
    """Say how slices of a shape become ours, and where their planes then lie.

    Rows run from side to side: where they are stored with a quarter turn, rows and columns change places. That turns
    the normal about, so the slices, which are sorted along it, change their order too. Then the normal points to the
    head, so that the slices begin at the foot end: where it points to the feet, every row is turned end for end, the
    first pixel becomes the last one's place and the row cosine is negated.
    """
    turn = _AxisChange()
    if abs(planes.row_cosine[0]) < abs(planes.column_cosine[0]):
        turn = _AxisChange(transpose=True, reverse=True)
        planes = Planes(
            planes.positions_mm[::-1].copy(),
            planes.column_cosine,
            planes.row_cosine,
            planes.pixel_spacing_mm[::-1],
            planes.thickness_mm,
        )
    if planes.normal[2] < 0:
        turn = replace(turn, mirror=True, reverse=not turn.reverse)
        columns = shape[0] if turn.transpose else shape[1]
        far = (columns - 1) * planes.pixel_spacing_mm[1] * planes.row_cosine
        planes = replace(planes, positions_mm=(planes.positions_mm + far)[::-1].copy(), row_cosine=-planes.row_cosine)
    return turn, planes


def _decode_volume(found: Series, turn: _AxisChange, progress: Progress | None) -> NDArray[np.int16]:
    """Decode the slices, each into its place: the volume is never copied, and few slices are held beside it.

    This thread reads, in the order in which the files lie in their archive; the others decode, which frees the
    interpreter's lock. A slice that is there twice is decoded at the end and compared.
    """
    count = len(found.slices)
    volume: NDArray[np.int16] | None = None

    def fill(frame: EncodedFrame, index: int) -> None:
        put(index, turn.apply(decode_hounsfield(frame, found.slices[index])))

    def put(index: int, pixels: NDArray[np.int16]) -> None:
        assert volume is not None
        volume[count - 1 - index if turn.reverse else index] = pixels

    order = sorted(range(count), key=lambda i: _reading_order(found.slices[i]))
    waiting: deque[Future[None]] = deque()
    threads = _count_threads()
    with FrameReader() as frames, ThreadPoolExecutor(threads) as pool:
        try:
            for done, index in enumerate(order):
                frame = _read_frame(frames, found.slices[index])
                if volume is None:  # not before one slice was there: a header that lies claims no memory
                    first = turn.apply(decode_hounsfield(frame, found.slices[index]))
                    volume = np.empty((count, *first.shape), dtype=np.int16)
                    put(index, first)
                else:
                    waiting.append(pool.submit(fill, frame, index))
                if len(waiting) > 2 * threads:
                    waiting.popleft().result()
                if progress is not None:
                    progress(done + 1, count)
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
        assert volume is not None
        for item, index in found.duplicates:
            kept = volume[count - 1 - index if turn.reverse else index]
            if not np.array_equal(turn.apply(decode_hounsfield(_read_frame(frames, item), item)), kept):
                raise series.make_conflict_error(found.slices[index], item)
    return volume


def _reading_order(item: SliceHeader) -> tuple[int, str, int]:
    return item.file.order, item.file.name, item.frame_index


def _read_frame(frames: FrameReader, item: SliceHeader) -> EncodedFrame:
    try:
        return frames.read(item.file, item.pixel_format, item.frame_index)
    except StrokesegError:
        raise
    except Exception as error:  # the system's word, or one of the dozen of a damaged archive
        raise make_damaged_error(item.name, error) from None


def _count_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_THREADS)
