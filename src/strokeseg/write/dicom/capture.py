"""Secondary captures: the key slices with the outline of the bleeding, for viewers that show no segmentation."""

from __future__ import annotations

import hashlib

import numpy as np
from highdicom.enum import CoordinateSystemNames, PhotometricInterpretationValues
from highdicom.sc import SCImage
from numpy.typing import NDArray

from strokeseg.components import Labels
from strokeseg.scan import Scan
from strokeseg.write import pictures
from strokeseg.write.dicom import codes
from strokeseg.write.dicom.study import MANUFACTURER, MODEL_NAME, NOTE, Study, codes_of

KIND = "capture"
_NUMBER = 7005


def captures(study: Study, scan: Scan, mask: NDArray[np.bool_], labels: Labels) -> list[SCImage]:
    """Make a colour picture for each of the five largest lesions: the slice on which it is largest.

    Lesions that are largest on the same slice share a picture; without any lesion the middle slice is shown. A picture
    holds the slice's number and the letters of its sides, and nothing of the patient.

    Parameters
    ----------
    mask : bool, (slices, rows, columns)
    labels : the same shape, 1 is the largest lesion
    """
    chosen = pictures.key_slices(labels)
    return [_capture(study, scan, mask, index, number) for number, index in enumerate(chosen, 1)]


def _capture(study: Study, scan: Scan, mask: NDArray[np.bool_], index: int, number: int) -> SCImage:
    picture = np.asarray(pictures.key_picture(scan, mask, index))
    centre, width = pictures.WINDOW
    made = SCImage(
        pixel_array=picture,
        photometric_interpretation=PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        study_instance_uid=study.study_uid,
        series_instance_uid=study.uid(KIND, "series"),
        series_number=_NUMBER,
        sop_instance_uid=study.uid(KIND, str(number)),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=study.version,
        device_serial_number=study.serial,
        series_description=f"StrokeSeg key slices ({NOTE})",
    )
    made.ConversionType, made.BodyPartExamined = "WSD", "HEAD"
    made.BurnedInAnnotation = "NO"
    drawn = " with the outline of the bleeding" if mask[index].any() else ""
    made.DerivationDescription = (
        f"Slice {index + 1} of {len(mask)} in the window of centre {centre:g} and width {width:g} HU{drawn}"
    )
    source = study.reference(index)
    source.PurposeOfReferenceCodeSequence = codes_of(codes.SOURCE_IMAGE)
    made.SourceImageSequence = [source]
    if study.source.attribute("LossyImageCompression") == "01":
        made.LossyImageCompression = "01"
    study.stamp(made, KIND, f"{number} {hashlib.sha256(picture.tobytes()).hexdigest()}")
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.InstanceCreationDate, made.InstanceCreationTime
    return made
