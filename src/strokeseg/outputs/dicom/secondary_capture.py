"""Secondary captures: the key slices with the outline of the bleeding, for viewers that show no segmentation."""

from __future__ import annotations

import hashlib

import numpy as np
from highdicom.enum import CoordinateSystemNames, PhotometricInterpretationValues
from highdicom.sc import SCImage
from numpy.typing import NDArray

from strokeseg.imaging.components import Labels
from strokeseg.outputs.dicom import codes
from strokeseg.outputs.dicom.context import MANUFACTURER, MODEL_NAME, RESEARCH_NOTE, ObjectContext, make_code_items
from strokeseg.outputs.images import slice_images
from strokeseg.scan import Scan

KIND = "capture"
_SERIES_NUMBER = 7005


def make_captures(study: ObjectContext, scan: Scan, mask: NDArray[np.bool_], labels: Labels) -> list[SCImage]:
    """Make a colour picture for each of the five largest lesions: the slice on which it is largest.

    Lesions that are largest on the same slice share a picture; without any lesion the middle slice is shown. A picture
    holds the slice's number and the letters of its sides, and nothing of the patient.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask.
    labels : Labels
        The same shape, 1 is the largest lesion.
    """
    chosen = slice_images.choose_key_slices(labels)
    return [_make_capture(study, scan, mask, index, number) for number, index in enumerate(chosen, 1)]


def _make_capture(study: ObjectContext, scan: Scan, mask: NDArray[np.bool_], index: int, number: int) -> SCImage:
    picture = np.asarray(slice_images.draw_key_slice(scan, mask, index))
    centre, width = slice_images.BRAIN_WINDOW
    made = SCImage(
        pixel_array=picture,
        photometric_interpretation=PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        study_instance_uid=study.study_uid,
        series_instance_uid=study.derive_uid(KIND, "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=study.derive_uid(KIND, str(number)),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=study.version,
        device_serial_number=study.serial_number,
        series_description=f"StrokeSeg key slices ({RESEARCH_NOTE})",
    )
    made.ConversionType, made.BodyPartExamined = "WSD", "HEAD"
    made.BurnedInAnnotation = "NO"
    drawn = " with the outline of the bleeding" if mask[index].any() else ""
    made.DerivationDescription = (
        f"Slice {index + 1} of {len(mask)} in the window of centre {centre:g} and width {width:g} HU{drawn}"
    )
    source = study.make_reference(index)
    source.PurposeOfReferenceCodeSequence = make_code_items(codes.SOURCE_IMAGE)
    made.SourceImageSequence = [source]
    if study.source.attribute("LossyImageCompression") == "01":
        made.LossyImageCompression = "01"
    study.stamp(made, KIND, f"{number} {hashlib.sha256(picture.tobytes()).hexdigest()}")
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.InstanceCreationDate, made.InstanceCreationTime
    return made
