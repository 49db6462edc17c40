"""A PDF as a DICOM object (Encapsulated PDF)."""

from __future__ import annotations

import hashlib

from highdicom.base import SOPClass
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from strokeseg.outputs.dicom import codes
from strokeseg.outputs.dicom.context import MANUFACTURER, MODEL_NAME, RESEARCH_NOTE, ObjectContext, make_code_items

KIND = "pdf"
_SERIES_NUMBER = 7006


def encapsulate_pdf(
    context: ObjectContext, data: bytes, *, title: str = "StrokeSeg report", burned_in: bool = False
) -> SOPClass:
    """Encapsulate a PDF in a DICOM object.

    Parameters
    ----------
    context : ObjectContext
        Attributes of all objects.
    data : bytes
        Content of the PDF.
    title : str, default: "StrokeSeg report"
        Title of the document.
    burned_in : bool, default: False
        Whether the PDF names the patient.

    Returns
    -------
    SOPClass
        The object.

    Raises
    ------
    ValueError
        If the bytes do not begin like a PDF.
    """
    if not data.startswith(b"%PDF-"):
        raise ValueError("the data is not a PDF")
    dataset = SOPClass(
        study_instance_uid=context.study_uid,
        series_instance_uid=context.derive_uid(KIND, "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=context.derive_uid(KIND, "1"),
        sop_class_uid=EncapsulatedPDFStorage,
        instance_number=1,
        modality="DOC",
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.version,
        device_serial_number=context.serial_number,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=f"StrokeSeg report ({RESEARCH_NOTE})",
    )
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "YES" if burned_in else "NO"
    dataset.AcquisitionDateTime = ""
    dataset.DocumentTitle = title
    dataset.ConceptNameCodeSequence = make_code_items(codes.REPORT_TITLE)
    dataset.VerificationFlag = "UNVERIFIED"
    sources = []
    for frame, numbers in context.group_frames().items():
        index = context.source.frames.index(frame)
        item = context.make_reference(index)
        if numbers:
            item.ReferencedFrameNumber = numbers
        item.PurposeOfReferenceCodeSequence = make_code_items(codes.SOURCE_IMAGE)
        sources.append(item)
    dataset.SourceInstanceSequence = sources
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(data)
    dataset.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    context.stamp(dataset, KIND, hashlib.sha256(data).hexdigest())
    return dataset
