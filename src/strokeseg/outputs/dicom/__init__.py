"""A result as DICOM objects in the study of its input, each kind in a series of its own.

highdicom makes them. It is imported when the first is made, for it takes 0.3 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import UsageError
from strokeseg.imaging.components import Labels
from strokeseg.result import Remark, ResultDocument
from strokeseg.scan import Scan

FORMATS = ("seg", "seg-labelmap", "seg-probability", "sr", "capture", "pdf-dicom")


def check_formats(scan: Scan, formats: Sequence[str]) -> None:
    """Refuse DICOM outputs of a scan that was not read from a DICOM series.

    Raises
    ------
    UsageError
        `usage`.
    """
    asked = [name for name in formats if name in FORMATS]
    if not asked:
        return
    if scan.source is None:
        read = "an array" if scan.kind == "array" else f"{scan.kind} files"
        raise UsageError(
            f"format {', '.join(asked)}: a DICOM object belongs to a DICOM study, and this scan was read from {read}",
            "Give the DICOM series itself, or leave these formats out.",
        )
    if scan.source.fault:
        raise UsageError(
            f"format {', '.join(asked)}: no one study for a DICOM object: of the series {scan.source.fault}",
            "Give one patient's series alone, or leave these formats out.",
        )


def save(
    folder: Path,
    scan: Scan,
    document: ResultDocument,
    labels: Labels,
    probability: NDArray[np.float16] | None,
    formats: Sequence[str],
    *,
    pdf: bytes | None = None,
    made: datetime | None = None,
) -> tuple[dict[str, str], list[Remark]]:
    """Write the DICOM objects that are asked for.

    Parameters
    ----------
    scan : Scan
        That :func:`check` has let through.
    document : ResultDocument
        The result.
    labels : Labels
        (slices, rows, columns), on the scan's grid; 1 is the largest lesion.
    probability : ndarray of float16 or None
        The same shape; None where there is none.
    formats : sequence of str
        Of :data:`FORMATS`; "sr" writes the segmentation to which it refers as well, and "pdf-dicom" needs ``pdf``.
    pdf : bytes, optional
        A PDF, to be wrapped.
    made : datetime, optional
        When the objects are made; now where None. All else is a function of the input, the network and the software.

    Returns
    -------
    tuple of (dict of str to str, list of Remark)
        The names of the files, and what was left out.
    """
    if not set(FORMATS) & set(formats) and pdf is None:
        return {}, []
    from strokeseg.outputs.dicom import objects

    return objects.save(folder, scan, document, labels, probability, formats, pdf, made or datetime.now())
