"""DICOM segmentations on the frames as stored: one segment per lesion, or the probability map.

Nothing is resampled. Each frame of the segmentation has the plane of its source frame and references it, so tilted,
unevenly spaced, rotated and multi-frame series keep their geometry.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from strokeseg.imaging.components import Labels
from strokeseg.outputs.dicom import codes
from strokeseg.outputs.dicom.context import MANUFACTURER, MODEL_NAME, RESEARCH_NOTE, ObjectContext, make_code_items
from strokeseg.result import Lesion

_RED = CIELabColor(46.0, 62.0, 42.0)
_MAX_FRACTIONAL_VALUE = 255

SegmentationKind = Literal["seg", "seg-labelmap", "seg-probability"]
_SERIES_NUMBERS = {"seg": 7001, "seg-labelmap": 7002, "seg-probability": 7003}


def make_tracking(context: ObjectContext, lesion: int) -> tuple[str, str]:
    """Make the (identifier, UID) that segmentation and structured report use for the same lesion."""
    return f"StrokeSeg lesion {lesion}", context.derive_uid("lesion", str(lesion))


def make_lesion_segmentation(
    context: ObjectContext, labels: Labels, lesions: list[Lesion], *, labelmap: bool = False
) -> Segmentation:
    """Make the segmentation of the lesions.

    Parameters
    ----------
    context : ObjectContext
        Attributes of all objects.
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion; there is at least one.
    lesions : list of Lesion
        Measurements of the lesions, in the order of the labels.
    labelmap : bool, default: False
        Write LABELMAP (one value per segment, one frame per slice) instead of BINARY (one bit, one frame per slice and
        segment).

    Returns
    -------
    Segmentation
        Segment ``n`` is the lesion with id ``n``; slices without lesions have no frame.
    """
    kind: SegmentationKind = "seg-labelmap" if labelmap else "seg"
    dtype = np.uint8 if labels.max() <= np.iinfo(np.uint8).max else np.uint16
    segments = [_describe_segment(context, lesion) for lesion in lesions]
    return _make_segmentation(context, kind, context.source.to_stored(labels).astype(dtype, copy=False), segments)


def make_probability_segmentation(context: ObjectContext, values: NDArray[np.float16]) -> Segmentation | None:
    """Make the segmentation of the probability map: FRACTIONAL, 255 is 1; slices below 1/510 have no frame.

    Parameters
    ----------
    context : ObjectContext
        Attributes of all objects.
    values : ndarray of float16, shape (slices, rows, columns)
        Probability map.

    Returns
    -------
    Segmentation or None
        None if it is 0 everywhere.
    """
    stored = context.source.to_stored(values)
    pixels = np.zeros(stored.shape, dtype=np.uint8)
    for index in np.flatnonzero(values.any((1, 2))):
        pixels[index] = np.rint(np.clip(stored[index].astype(np.float32), 0, 1) * _MAX_FRACTIONAL_VALUE)
    if not pixels.any():
        return None
    segment = _make_description(context, 1, "Hemorrhage, probability", codes.INTRACRANIAL, codes.BRAIN, None)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return _make_segmentation(context, "seg-probability", pixels, [segment], digest)


def find_segment_slices(context: ObjectContext, segmentation: Segmentation, number: int) -> list[int]:
    """Return the indices of the slices on which a segment has a frame, in order."""
    indices = {(frame.sop_uid, frame.number): index for index, frame in enumerate(context.source.frames)}
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    slices = []
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        owner = groups if "SegmentIdentificationSequence" in groups else shared
        if owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            image = groups.DerivationImageSequence[0].SourceImageSequence[0]
            slices.append(indices[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")])
    return sorted(slices)


def _describe_segment(context: ObjectContext, lesion: Lesion) -> SegmentDescription:
    lesion_codes = codes.choose_lesion_codes(lesion)
    finding, site, side = lesion_codes.finding, lesion_codes.site, lesion_codes.side
    segment = _make_description(context, lesion.id, f"Hemorrhage {lesion.id}", finding, site, side)
    segment.TrackingID, segment.TrackingUID = make_tracking(context, lesion.id)
    return segment


def _make_description(
    context: ObjectContext, number: int, label: str, finding: Code, site: Code, side: Code | None
) -> SegmentDescription:
    description = SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.ABNORMAL_STRUCTURE,
        segmented_property_type=finding,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=context.model.name,
            family=codes.ARTIFICIAL_INTELLIGENCE,
            version=context.model.version,
            source=MANUFACTURER,
            parameters=context.parameters,
        ),
        anatomic_regions=[site],
        display_color=_RED,
    )
    if side is not None:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = make_code_items(side)
    return description


def _make_segmentation(
    context: ObjectContext,
    kind: SegmentationKind,
    pixels: NDArray[np.unsignedinteger[Any]],
    segments: list[SegmentDescription],
    digest: str = "",
) -> Segmentation:
    """Make a segmentation on the stored frames; fractional values replace the 0 and 1 that highdicom writes."""
    fractional = kind == "seg-probability"
    segmentation = Segmentation(
        source_images=context.make_plane_images(),
        pixel_array=pixels > 0 if fractional else pixels,
        segmentation_type={"seg": "BINARY", "seg-labelmap": "LABELMAP", "seg-probability": "FRACTIONAL"}[kind],
        segment_descriptions=segments,
        series_instance_uid=context.derive_uid(kind, "series"),
        series_number=_SERIES_NUMBERS[kind],
        sop_instance_uid=context.derive_uid(kind, "1"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.version,
        device_serial_number=context.serial_number,
        max_fractional_value=_MAX_FRACTIONAL_VALUE,
        content_label="HEMORRHAGE",
        content_description=f"Intracranial hemorrhage, {RESEARCH_NOTE}",
        series_description=f"StrokeSeg {'probability' if fractional else 'hemorrhage'} ({RESEARCH_NOTE})",
    )
    order = _replace_references(context, segmentation)
    if fractional:
        segmentation.PixelData = pixels[order].tobytes()  # pydicom pads it to an even number of bytes
    if context.source.attribute("LossyImageCompression") == "01":
        segmentation.LossyImageCompression = "01"
    context.stamp(segmentation, kind, "1" + digest)
    _set_dimension_uids(context, segmentation, kind)
    return segmentation


def _replace_references(context: ObjectContext, segmentation: Segmentation) -> list[int]:
    """Replace the references to the plane images by references to the stored frames; return the slice of each frame."""
    # Frames of several segments in one plane share an item, so all items are read before any is modified.
    images = [
        groups.DerivationImageSequence[0].SourceImageSequence[0]
        for groups in segmentation.PerFrameFunctionalGroupsSequence
    ]
    order = [int(image.ReferencedSOPInstanceUID.rpartition(".")[2]) for image in images]
    for image, index in zip(images, order, strict=True):
        reference = context.make_reference(index)
        image.ReferencedSOPClassUID = reference.ReferencedSOPClassUID
        image.ReferencedSOPInstanceUID = reference.ReferencedSOPInstanceUID
        if "ReferencedFrameNumber" in reference:
            image.ReferencedFrameNumber = reference.ReferencedFrameNumber
    objects = []
    for frame in context.group_frames():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.sop_class, frame.sop_uid
        objects.append(item)
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence = objects
    segmentation.SourceImageSequence = [Dataset(item) for item in objects]
    return order


def _set_dimension_uids(context: ObjectContext, segmentation: Segmentation, kind: SegmentationKind) -> None:
    """Set the UID of the dimension organization to one derived from the input."""
    uid = context.derive_uid(kind, "dimensions")
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
