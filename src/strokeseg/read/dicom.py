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
from strokeseg.read import origin, series
from strokeseg.read.archive import MOST_PIXELS, MOST_VOXELS
from strokeseg.read.header import Header
from strokeseg.read.pixels import damaged, hounsfield
from strokeseg.read.series import Series
from strokeseg.read.stored import Frame, Frames
from strokeseg.scan import Planes, Scan

Progress = Callable[[int, int], None]

_LOOKS = 12
_MOST_THREADS = 16


def scan(found: Series, progress: Progress | None = None) -> Scan:
    """Read one series: every slice on its own plane, in Hounsfield units.

    Parameters
    ----------
    found : slices that fit together
    progress : is called with (slices done, slices in all)

    Raises
    ------
    NoHounsfield, InconsistentGeometry, UnreadableFile, UnsupportedTransferSyntax, TooLarge
        `no-hounsfield`, `geometry`, `unreadable`, `transfer-syntax`, `too-large`
    """
    slices, first = found.slices, series.placed(found.slices[0])
    rows, columns = slices[0].shape
    if rows * columns > MOST_PIXELS or rows * columns * len(slices) > MOST_VOXELS:
        raise TooLarge(f"{len(slices)} slices of {rows} x {columns} pixels; at most {MOST_VOXELS:,} voxels are read")
    planes = Planes(
        found.positions_mm, first.row_cosine, first.column_cosine, first.pixel_spacing_mm, first.thickness_mm
    )
    turn, planes = _upright(planes, slices[0].shape)
    ours = slices[::-1] if turn.backwards else slices
    volume = _volume(found, turn, progress)
    return Scan(
        volume,
        planes,
        kind="dicom",
        series_uid=slices[0].series_uid or None,
        sop_instance_uids=tuple(item.sop_uid for item in ours),
        remarks=found.remarks,
        source=origin.source(ours, transposed=turn.across, mirrored=turn.flip),
    )


def glance(found: Series) -> Scan:
    """Read up to twelve slices, spread over a series: enough to tell a head; raises as :func:`scan`."""
    picked = np.unique(np.linspace(0, len(found.slices) - 1, min(len(found.slices), _LOOKS)).round().astype(int))
    return scan(replace(found, slices=tuple(found.slices[index] for index in picked), twice=(), remarks=()))


@dataclass(frozen=True)
class _Turn:
    """How stored slices become ours, by whole axes: nothing is resampled and no pixel changes its place in the patient.

    Parameters
    ----------
    across : rows and columns change places
    flip : every row is turned end for end
    backwards : the last slice is the first
    """

    across: bool = False
    flip: bool = False
    backwards: bool = False

    def pixels(self, stored: NDArray[np.int16]) -> NDArray[np.int16]:
        """Turn one slice's pixels."""
        turned = stored.T if self.across else stored
        return turned[:, ::-1] if self.flip else turned


def _upright(planes: Planes, shape: tuple[int, int]) -> tuple[_Turn, Planes]:
    """Say how slices of a shape become ours, and where their planes then lie.

    Rows run from side to side: where they are stored with a quarter turn, rows and columns change places. That turns
    the normal about, so the slices, which are sorted along it, change their order too. Then the normal points to the
    head, so that the slices begin at the foot end: where it points to the feet, every row is turned end for end, the
    first pixel becomes the last one's place and the row cosine is negated.
    """
    turn = _Turn()
    if abs(planes.row_cosine[0]) < abs(planes.column_cosine[0]):
        turn = _Turn(across=True, backwards=True)
        planes = Planes(
            planes.positions_mm[::-1].copy(),
            planes.column_cosine,
            planes.row_cosine,
            planes.pixel_spacing_mm[::-1],
            planes.thickness_mm,
        )
    if planes.normal[2] < 0:
        turn = replace(turn, flip=True, backwards=not turn.backwards)
        columns = shape[0] if turn.across else shape[1]
        far = (columns - 1) * planes.pixel_spacing_mm[1] * planes.row_cosine
        planes = replace(planes, positions_mm=(planes.positions_mm + far)[::-1].copy(), row_cosine=-planes.row_cosine)
    return turn, planes


def _volume(found: Series, turn: _Turn, progress: Progress | None) -> NDArray[np.int16]:
    """Decode the slices, each into its place: the volume is never copied, and few slices are held beside it.

    This thread reads, in the order in which the files lie in their archive; the others decode, which frees the
    interpreter's lock. A slice that is there twice is decoded at the end and compared.
    """
    count = len(found.slices)
    volume: NDArray[np.int16] | None = None

    def fill(frame: Frame, index: int) -> None:
        put(index, turn.pixels(hounsfield(frame, found.slices[index])))

    def put(index: int, pixels: NDArray[np.int16]) -> None:
        assert volume is not None
        volume[count - 1 - index if turn.backwards else index] = pixels

    order = sorted(range(count), key=lambda i: _reading_order(found.slices[i]))
    waiting: deque[Future[None]] = deque()
    threads = _threads()
    with Frames() as frames, ThreadPoolExecutor(threads) as pool:
        try:
            for done, index in enumerate(order):
                frame = _frame(frames, found.slices[index])
                if volume is None:  # not before one slice was there: a header that lies claims no memory
                    first = turn.pixels(hounsfield(frame, found.slices[index]))
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
        for item, index in found.twice:
            kept = volume[count - 1 - index if turn.backwards else index]
            if not np.array_equal(turn.pixels(hounsfield(_frame(frames, item), item)), kept):
                raise series.differ(found.slices[index], item)
    return volume


def _reading_order(item: Header) -> tuple[int, str, int]:
    return item.member.order, item.member.name, item.frame


def _frame(frames: Frames, item: Header) -> Frame:
    try:
        return frames.frame(item.member, item.stored, item.frame)
    except StrokesegError:
        raise
    except Exception as error:  # the system's word, or one of the dozen of a damaged archive
        raise damaged(item.name, error) from None


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)
