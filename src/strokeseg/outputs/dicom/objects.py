"""Which objects a result becomes, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from strokeseg.imaging.components import Labels
from strokeseg.outputs.dicom import encapsulated_pdf, secondary_capture, segmentations, structured_report
from strokeseg.outputs.dicom.context import ObjectContext, make_context, suppress_dicom_warnings
from strokeseg.result import Remark, ResultDocument
from strokeseg.scan import Scan


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
    """Write the objects; see :func:`strokeseg.outputs.dicom.save`."""
    with suppress_dicom_warnings():
        shared, remarks = make_context(scan, document, labels, made)
        if {"seg", "seg-labelmap"} & set(formats) and not labels.any():
            message = "No bleeding was found: DICOM has no empty segmentation, so none was written."
            remarks.append(Remark(code="no-segmentation", severity="info", message=message))
        said = document.model_copy(update={"remarks": [*document.remarks, *remarks]})
        objects = _make_lesion_objects(shared, said, labels, formats)
        if "seg-probability" in formats and probability is not None:
            shares = segmentations.make_probability_segmentation(shared, probability)
            objects |= {} if shares is None else {"seg_probability": shares}
        if "capture" in formats:
            pictures = secondary_capture.make_captures(shared, scan, labels > 0, labels)
            objects |= {f"capture_{number}": picture for number, picture in enumerate(pictures, 1)}
        if report is not None:
            objects["report_pdf"] = encapsulated_pdf.encapsulate_pdf(shared, report)
        for name, item in objects.items():
            item.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return {name: f"{name}.dcm" for name in objects}, remarks


def _make_lesion_objects(
    shared: ObjectContext, document: ResultDocument, labels: Labels, formats: Sequence[str]
) -> dict[str, Dataset]:
    """Make the segmentations of the lesions, and the report that refers to the first of them."""
    found: dict[str, Dataset] = {}
    lesions, segmentation = document.findings.lesions, None
    if labels.any() and {"seg", "sr"} & set(formats):
        segmentation = found["seg"] = segmentations.make_lesion_segmentation(shared, labels, lesions)
    if labels.any() and "seg-labelmap" in formats:
        found["seg_labelmap"] = segmentations.make_lesion_segmentation(shared, labels, lesions, labelmap=True)
    if "sr" in formats:
        found["sr"] = structured_report.make_report(shared, document, segmentation)
    return found
