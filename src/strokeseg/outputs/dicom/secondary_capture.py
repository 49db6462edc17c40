"""Secondary captures: the key slices with outlined lesions, for viewers that do not show segmentations."""

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
from strokeseg.scan_options import BRAIN_WINDOW

KIND = "capture"
_SERIES_NUMBER = 7005


def make_captures(context: ObjectContext, scan: Scan, mask: NDArray[np.bool_], labels: Labels) -> list[SCImage]:
    """Make a colour image of the key slice of each of the five largest lesions.

    Lesions that are largest on the same slice share an image; without any lesion, the middle slice is shown. The image
    contains the slice number and the side letters, but no patient data.

    Parameters
    ----------
    context : ObjectContext
        Attributes of all objects.
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion.

    Returns
    -------
    list of SCImage
        The objects, in the order of the lesions.
    """
    chosen = slice_images.choose_key_slices(labels)
    return [_make_capture(context, scan, mask, index, number) for number, index in enumerate(chosen, 1)]


def _make_capture(context: ObjectContext, scan: Scan, mask: NDArray[np.bool_], index: int, number: int) -> SCImage:
    pixels = np.asarray(slice_images.draw_key_slice(scan, mask, index))
    centre, width = BRAIN_WINDOW
    capture = SCImage(
        pixel_array=pixels,
        photometric_interpretation=PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        study_instance_uid=context.study_uid,
        series_instance_uid=context.derive_uid(KIND, "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=context.derive_uid(KIND, str(number)),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.version,
        device_serial_number=context.serial_number,
        series_description=f"StrokeSeg key slices ({RESEARCH_NOTE})",
    )
    capture.ConversionType, capture.BodyPartExamined = "WSD", "HEAD"
    capture.BurnedInAnnotation = "NO"
    outline = " with outlined hemorrhage" if mask[index].any() else ""
    capture.DerivationDescription = (
        f"Slice {index + 1} of {len(mask)} in the window of centre {centre:g} and width {width:g} HU{outline}"
    )
    source = context.make_reference(index)
    source.PurposeOfReferenceCodeSequence = make_code_items(codes.SOURCE_IMAGE)
    capture.SourceImageSequence = [source]
    if context.source.attribute("LossyImageCompression") == "01":
        capture.LossyImageCompression = "01"
    context.stamp(capture, KIND, f"{number} {hashlib.sha256(pixels.tobytes()).hexdigest()}")
    capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = (
        capture.InstanceCreationDate,
        capture.InstanceCreationTime,
    )
    return capture
