"""A result as DICOM objects in the study of its input, with one series per kind of object.

highdicom, which creates them, is imported only when needed, since the import takes 0.3 s.
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
_ORIGINS = {
    "array": "an array",
    "pictures": "pictures",
    "nifti": "a NIfTI file",
    "nrrd": "an NRRD file",
    "metaimage": "a MetaImage file",
}


def check_formats(scan: Scan, formats: Sequence[str]) -> None:
    """Refuse DICOM outputs of a scan that was not read from a DICOM series.

    Parameters
    ----------
    scan : Scan
        The scan.
    formats : sequence of str
        Formats; those not in :data:`FORMATS` are ignored.

    Raises
    ------
    UsageError
        `usage`, if there is no DICOM series, or its identity is ambiguous.
    """
    requested = [name for name in formats if name in FORMATS]
    if not requested:
        return
    if scan.source is None:
        origin = _ORIGINS.get(scan.kind, scan.kind)
        raise UsageError(
            f"format {', '.join(requested)}: needs a DICOM study, and this scan was read from {origin}",
            "Pass the DICOM series itself, or leave these formats out.",
        )
    if scan.source.fault:
        raise UsageError(
            f"format {', '.join(requested)}: this series cannot have DICOM objects: {scan.source.fault}",
            "Pass the series of one patient, or leave these formats out.",
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
    created: datetime | None = None,
) -> tuple[dict[str, str], list[Remark]]:
    """Write the DICOM objects of the requested formats.

    Parameters
    ----------
    folder : Path
        Where to write them.
    scan : Scan
        A scan that :func:`check_formats` accepts.
    document : ResultDocument
        The result.
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion.
    probability : ndarray of float16, shape (slices, rows, columns), or None
        Probability map, which only "seg-probability" needs.
    formats : sequence of str
        Some of :data:`FORMATS`; "sr" also writes the segmentation that it references, and "pdf-dicom" needs ``pdf``.
    pdf : bytes, optional
        A PDF to encapsulate.
    created : datetime, optional
        Time of creation; by default now. Everything else depends only on the input, the model and the software.

    Returns
    -------
    tuple of (dict of str to str, list of Remark)
        File names by key of `result.json`, and remarks on what was left out.
    """
    if not set(FORMATS) & set(formats) and pdf is None:
        return {}, []
    from strokeseg.outputs.dicom import objects

    return objects.save(folder, scan, document, labels, probability, formats, pdf, created or datetime.now())
