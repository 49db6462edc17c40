"""Read files into checked scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from strokeseg.reading.progress import Progress
    from strokeseg.scan import Scan

__all__ = ["read", "read_one"]


def read(
    path: str | Path,
    *,
    series: str | None = None,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    order: str = "auto",
    progress: Progress | None = None,
) -> list[Scan]:
    """Read every head CT series of a path as it was acquired.

    Parameters
    ----------
    path : str or Path
        DICOM folder, archive (zip, tar, compressed tar), DICOMDIR or file; NIfTI or another volume; a picture, or a
        folder or archive of pictures (one stack).
    series : str, optional
        Read only the series with this instance UID, or the only series whose UID begins with it; "UID:2" is the second
        of several volumes in one series, in the order in which they are listed.
    window : tuple of (float, float), optional
        (centre, width) of pictures, HU; estimated by default.
    spacing_mm : tuple of (float, float, float), optional
        (slice, row, column) spacing of pictures, mm.
    order : {"auto", "lowest-first", "highest-first"}, default "auto"
        Direction of a stack of pictures; found from the anatomy by default. The slices of a scan run from the lowest
        to the highest, so a stack that begins with the highest is turned (remark `slice-order`).
    progress : callable, optional
        Called with (slices read, total slices) of each DICOM series.

    Returns
    -------
    list of Scan
        One for each series; each passed the gate and carries its remarks.

    Raises
    ------
    UnreadableFile, EmptyInput, UnsafeArchive, TooLarge, UnsupportedTransferSyntax
        If nothing can be read: `unreadable`, `empty`, `unsafe-archive`, `too-large`, `transfer-syntax`.
    NotCT, NotHead, NoHounsfield, InconsistentGeometry
        If the input is not a head CT that can be measured: `not-ct`, `not-head`, `no-hounsfield`, `geometry`.
    """
    from pathlib import Path

    from strokeseg.reading import dispatch
    from strokeseg.scan_options import PictureOptions

    return dispatch.read_all_series(
        Path(path).expanduser(), series, PictureOptions(window, spacing_mm, order), progress
    )


def read_one(
    path: str | Path,
    *,
    series: str | None = None,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    order: str = "auto",
    progress: Progress | None = None,
) -> Scan:
    """Read the one series to segment: the only series, or the one that stands out.

    Parameters
    ----------
    path : str or Path
        As in :func:`read`.
    series : str, optional
        As in :func:`read`; read this series.
    window : tuple of (float, float), optional
        As in :func:`read`.
    spacing_mm : tuple of (float, float, float), optional
        As in :func:`read`.
    order : {"auto", "lowest-first", "highest-first"}, default "auto"
        As in :func:`read`.
    progress : callable, optional
        As in :func:`read`.

    Returns
    -------
    Scan
        The scan; it passed the gate and carries its remarks.

    Raises
    ------
    SeveralSeries
        `several-series`, if no series stands out; the message lists them.
    InputError
        As :func:`read`.
    """
    from pathlib import Path

    from strokeseg.reading import dispatch
    from strokeseg.scan_options import PictureOptions

    return dispatch.read_one_series(
        Path(path).expanduser(), series, PictureOptions(window, spacing_mm, order), progress
    )
