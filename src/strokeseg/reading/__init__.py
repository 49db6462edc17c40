"""From files to gated scans."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from strokeseg.scan import Scan

__all__ = ["read", "read_one"]

Window = tuple[float, float]
Spacing = tuple[float, float, float]
Progress = Callable[[int, int], None]


def read(
    path: str | Path,
    *,
    series: str | None = None,
    window: Window | None = None,
    spacing_mm: Spacing | None = None,
    progress: Progress | None = None,
) -> list[Scan]:
    """Read every head CT series that a path holds, each as it was acquired.

    Parameters
    ----------
    path : str or Path
        DICOM folder, archive (zip, tar, compressed tar), DICOMDIR or file; NIfTI or another volume; a picture, or a
        folder or archive of pictures (one stack).
    series : str, optional
        Only the series of this instance UID, or the one whose UID begins so.
    window : Window, optional
        (centre, width) of pictures; estimated where not given.
    spacing_mm : Spacing, optional
        (slice, row, column) of pictures, mm.
    progress : Progress, optional
        Is called with (slices read, slices in all) of each DICOM series.

    Returns
    -------
    list of Scan
        List of Scan, one a series; each has passed the gate and carries its remarks.

    Raises
    ------
    UnreadableFile, EmptyInput, UnsafeArchive, TooLarge, UnsupportedTransferSyntax
        If nothing can be read: `unreadable`, `empty`, `unsafe-archive`, `too-large`, `transfer-syntax`.
    NotCT, NotHead, NoHounsfield, InconsistentGeometry
        If it is no head CT that can be measured: `not-ct`, `not-head`, `no-hounsfield`, `geometry`.
    """
    from pathlib import Path

    from strokeseg.reading import dispatch

    return dispatch.read_all_series(Path(path).expanduser(), series, window, spacing_mm, progress)


def read_one(
    path: str | Path,
    *,
    series: str | None = None,
    window: Window | None = None,
    spacing_mm: Spacing | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Read the one series to segment: the one asked for, the only one, or the one that stands out.

    Parameters are those of :func:`read`.

    Raises
    ------
    SeveralSeries
        `several-series`, if none stands out; the sentence lists them.
    InputError
        As :func:`read`.
    """
    from pathlib import Path

    from strokeseg.reading import dispatch

    return dispatch.read_one_series(Path(path).expanduser(), series, window, spacing_mm, progress)
