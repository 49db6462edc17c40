"""Which objects a result becomes, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from strokeseg.components import Labels
from strokeseg.result import Remark, ResultDocument
from strokeseg.scan import Scan
from strokeseg.write.dicom import capture, pdf, seg, sr
from strokeseg.write.dicom.study import Study, quiet, study


def save(
    folder: Path,
    scan: Scan,
    document: ResultDocument,
    labels: Labels,
    probability: NDArray[np.float16] | None,
    formats: Sequence[str],
    report: bytes | None,
    made: datetime,
) -> tuple[dict[str, str], list[Remark]]:
    """Write the objects; see :func:`strokeseg.write.dicom.save`."""
    with quiet():
        shared, remarks = study(scan, document, labels, made)
        if {"seg", "seg-labelmap"} & set(formats) and not labels.any():
            message = "No bleeding was found: DICOM has no empty segmentation, so none was written."
            remarks.append(Remark(code="no-segmentation", severity="info", message=message))
        said = document.model_copy(update={"remarks": [*document.remarks, *remarks]})
        objects = _measured(shared, said, labels, formats)
        if "seg-probability" in formats and probability is not None:
            shares = seg.probability(shared, probability)
            objects |= {} if shares is None else {"seg_probability": shares}
        if "capture" in formats:
            pictures = capture.captures(shared, scan, labels > 0, labels)
            objects |= {f"capture_{number}": picture for number, picture in enumerate(pictures, 1)}
        if report is not None:
            objects["report_pdf"] = pdf.encapsulated(shared, report)
        for name, item in objects.items():
            item.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return {name: f"{name}.dcm" for name in objects}, remarks


def _measured(shared: Study, document: ResultDocument, labels: Labels, formats: Sequence[str]) -> dict[str, Dataset]:
    """Make the segmentations of the lesions, and the report that refers to the first of them."""
    found: dict[str, Dataset] = {}
    lesions, segmentation = document.findings.lesions, None
    if labels.any() and {"seg", "sr"} & set(formats):
        segmentation = found["seg"] = seg.lesions(shared, labels, lesions)
    if labels.any() and "seg-labelmap" in formats:
        found["seg_labelmap"] = seg.lesions(shared, labels, lesions, labelmap=True)
    if "sr" in formats:
        found["sr"] = sr.report(shared, document, segmentation)
    return found
