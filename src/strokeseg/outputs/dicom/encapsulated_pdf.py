"""A PDF as a DICOM object."""

from __future__ import annotations

import hashlib

from highdicom.base import SOPClass
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from strokeseg.outputs.dicom import codes
from strokeseg.outputs.dicom.context import MANUFACTURER, MODEL_NAME, RESEARCH_NOTE, ObjectContext, make_code_items

KIND = "pdf"
_SERIES_NUMBER = 7006


def encapsulate_pdf(
    study: ObjectContext, data: bytes, *, title: str = "StrokeSeg report", burned_in: bool = False
) -> SOPClass:
    """Wrap a PDF.

    Parameters
    ----------
    data : bytes
        The PDF's bytes.
    title : str, default: "StrokeSeg report"
        Of the document.
    burnt_in : object
        Whether the PDF names the patient.

    Raises
    ------
    ValueError
        For bytes that do not begin as a PDF.
    """
    if not data.startswith(b"%PDF-"):
        raise ValueError("these bytes are no PDF")
    made = SOPClass(
        study_instance_uid=study.study_uid,
        series_instance_uid=study.derive_uid(KIND, "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=study.derive_uid(KIND, "1"),
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=study.version,
        device_serial_number=study.serial_number,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=f"StrokeSeg report ({RESEARCH_NOTE})",
    )
    made.ConversionType = "WSD"
    made.BurnedInAnnotation = "YES" if burned_in else "NO"
    made.AcquisitionDateTime = ""
    made.DocumentTitle = title
    made.ConceptNameCodeSequence = make_code_items(codes.REPORT_TITLE)
    made.VerificationFlag = "UNVERIFIED"
    sources = []
    for frame, numbers in study.group_frames().items():
        index = study.source.frames.index(frame)
        item = study.make_reference(index)
        if numbers:
            item.ReferencedFrameNumber = numbers
        item.PurposeOfReferenceCodeSequence = make_code_items(codes.SOURCE_IMAGE)
        sources.append(item)
    made.SourceInstanceSequence = sources
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(data)
    made.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    study.stamp(made, KIND, hashlib.sha256(data).hexdigest())
    return made
