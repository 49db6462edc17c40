"""The DICOM objects of a result and their files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from strokeseg.imaging.components import Labels
from strokeseg.library_output import silence_libraries
from strokeseg.outputs.dicom import encapsulated_pdf, secondary_capture, segmentations, structured_report
from strokeseg.outputs.dicom.context import ObjectContext, make_context
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
    created: datetime,
) -> tuple[dict[str, str], list[Remark]]:
    """Write the DICOM objects of a result; see :func:`strokeseg.outputs.dicom.save`."""
    with silence_libraries():
        context, remarks = make_context(scan, document, labels, created)
        if {"seg", "seg-labelmap"} & set(formats) and not labels.any():
            message = "No hemorrhage was detected. DICOM has no empty segmentation, so none was written."
            remarks.append(Remark(code="no-segmentation", severity="info", message=message))
        remarked = document.model_copy(update={"remarks": [*document.remarks, *remarks]})
        objects = _make_lesion_objects(context, remarked, labels, formats)
        if "seg-probability" in formats and probability is not None:
            probabilities = segmentations.make_probability_segmentation(context, probability)
            objects |= {} if probabilities is None else {"seg_probability": probabilities}
        if "capture" in formats:
            captures = secondary_capture.make_captures(context, scan, labels > 0, labels)
            objects |= {f"capture_{number}": capture for number, capture in enumerate(captures, 1)}
        if report is not None:
            objects["report_pdf"] = encapsulated_pdf.encapsulate_pdf(context, report)
        for name, item in objects.items():
            item.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return {name: f"{name}.dcm" for name in objects}, remarks


def _make_lesion_objects(
    context: ObjectContext, document: ResultDocument, labels: Labels, formats: Sequence[str]
) -> dict[str, Dataset]:
    """Make the segmentations of the lesions, and the structured report that references the first of them."""
    objects: dict[str, Dataset] = {}
    lesions, segmentation = document.findings.lesions, None
    if labels.any() and {"seg", "sr"} & set(formats):
        segmentation = objects["seg"] = segmentations.make_lesion_segmentation(context, labels, lesions)
    if labels.any() and "seg-labelmap" in formats:
        objects["seg_labelmap"] = segmentations.make_lesion_segmentation(context, labels, lesions, labelmap=True)
    if "sr" in formats:
        objects["sr"] = structured_report.make_report(context, document, segmentation)
    return objects
