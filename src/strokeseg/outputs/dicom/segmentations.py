"""DICOM segmentations on the frames as they were stored: one segment a lesion, or the network's probability.

Nothing is resampled. Each frame of the segmentation has the plane of the source's frame and refers to it, so that
tilted, uneven, turned and multi-frame series are segmented as they are.
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


def make_tracking(study: ObjectContext, lesion: int) -> tuple[str, str]:
    """Return the (identifier, UID) by which segmentation and report name the same lesion."""
    return f"StrokeSeg lesion {lesion}", study.derive_uid("lesion", str(lesion))


def make_lesion_segmentation(
    study: ObjectContext, labels: Labels, found: list[Lesion], *, labelmap: bool = False
) -> Segmentation:
    """Make the segmentation of the lesions.

    Parameters
    ----------
    labels : Labels
        (slices, rows, columns), on the scan's grid; 1 is the largest lesion, and there is at least one.
    found : list of Lesion
        The lesions' numbers, in the order of the labels.
    labelmap : bool, default: False
        LABELMAP (one value a segment in one frame a slice) instead of BINARY (one bit, a frame a segment).

    Returns
    -------
    Segmentation
        Segment ``n`` is the lesion with id ``n``; slices without bleeding have no frame.
    """
    kind: SegmentationKind = "seg-labelmap" if labelmap else "seg"
    small = np.uint8 if labels.max() <= np.iinfo(np.uint8).max else np.uint16
    segments = [_describe_segment(study, lesion) for lesion in found]
    return _make_segmentation(study, kind, study.source.to_stored(labels).astype(small, copy=False), segments)


def make_probability_segmentation(study: ObjectContext, values: NDArray[np.float16]) -> Segmentation | None:
    """Make the segmentation of the probability: FRACTIONAL, 255 is 1; slices where it is below 1/510 have no frame.

    Parameters
    ----------
    values : ndarray of float16, shape (slices, rows, columns)
        On the scan's grid.

    Returns
    -------
    Segmentation or None
        None where it is 0 everywhere.
    """
    stored = study.source.to_stored(values)
    whole = np.zeros(stored.shape, dtype=np.uint8)
    for index in np.flatnonzero(values.any((1, 2))):
        whole[index] = np.rint(np.clip(stored[index].astype(np.float32), 0, 1) * _MAX_FRACTIONAL_VALUE)
    if not whole.any():
        return None
    segment = _make_description(study, 1, "Hemorrhage, probability", codes.INTRACRANIAL, codes.BRAIN, None)
    digest = hashlib.sha256(whole.tobytes()).hexdigest()
    return _make_segmentation(study, "seg-probability", whole, [segment], digest)


def find_segment_slices(study: ObjectContext, segmentation: Segmentation, number: int) -> list[int]:
    """Return the scan's slices on which a segment has a frame, in their order."""
    index = {(frame.sop_uid, frame.number): place for place, frame in enumerate(study.source.frames)}
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    found = []
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        owner = groups if "SegmentIdentificationSequence" in groups else shared
        if owner.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            image = groups.DerivationImageSequence[0].SourceImageSequence[0]
            found.append(index[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")])
    return sorted(found)


def _describe_segment(study: ObjectContext, lesion: Lesion) -> SegmentDescription:
    what = codes.choose_lesion_codes(lesion)
    made = _make_description(study, lesion.id, f"Hemorrhage {lesion.id}", what.finding, what.site, what.side)
    made.TrackingID, made.TrackingUID = make_tracking(study, lesion.id)
    return made


def _make_description(
    study: ObjectContext, number: int, label: str, finding: Code, site: Code, side: Code | None
) -> SegmentDescription:
    made = SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.ABNORMAL_STRUCTURE,
        segmented_property_type=finding,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=study.model.name,
            family=codes.ARTIFICIAL_INTELLIGENCE,
            version=study.model.version,
            source=MANUFACTURER,
            parameters=study.parameters,
        ),
        anatomic_regions=[site],
        display_color=_RED,
    )
    if side is not None:
        made.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = make_code_items(side)
    return made


def _make_segmentation(
    study: ObjectContext,
    kind: SegmentationKind,
    pixels: NDArray[np.unsignedinteger[Any]],
    segments: list[SegmentDescription],
    digest: str = "",
) -> Segmentation:
    """Make a segmentation of stored frames; fractions replace its pixels, which highdicom takes for 0 and 1."""
    fractional = kind == "seg-probability"
    made = Segmentation(
        source_images=study.make_plane_images(),
        pixel_array=pixels > 0 if fractional else pixels,
        segmentation_type={"seg": "BINARY", "seg-labelmap": "LABELMAP", "seg-probability": "FRACTIONAL"}[kind],
        segment_descriptions=segments,
        series_instance_uid=study.derive_uid(kind, "series"),
        series_number=_SERIES_NUMBERS[kind],
        sop_instance_uid=study.derive_uid(kind, "1"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=study.version,
        device_serial_number=study.serial_number,
        max_fractional_value=_MAX_FRACTIONAL_VALUE,
        content_label="HEMORRHAGE",
        content_description=f"Intracranial hemorrhage, {RESEARCH_NOTE}",
        series_description=f"StrokeSeg {'probability' if fractional else 'hemorrhage'} ({RESEARCH_NOTE})",
    )
    order = _replace_references(study, made)
    if fractional:
        made.PixelData = pixels[order].tobytes()  # of an even number of bytes: pydicom pads when it writes
    if study.source.attribute("LossyImageCompression") == "01":
        made.LossyImageCompression = "01"
    study.stamp(made, kind, "1" + digest)
    _set_dimension_uids(study, made, kind)
    return made


def _replace_references(study: ObjectContext, made: Segmentation) -> list[int]:
    """Replace the references to stand-in images by those to the stored frames; give each frame's slice."""
    # The frames of several segments in one plane share an item: all are read before any is changed.
    images = [
        groups.DerivationImageSequence[0].SourceImageSequence[0] for groups in made.PerFrameFunctionalGroupsSequence
    ]
    order = [int(image.ReferencedSOPInstanceUID.rpartition(".")[2]) for image in images]
    for image, index in zip(images, order, strict=True):
        reference = study.make_reference(index)
        image.ReferencedSOPClassUID = reference.ReferencedSOPClassUID
        image.ReferencedSOPInstanceUID = reference.ReferencedSOPInstanceUID
        if "ReferencedFrameNumber" in reference:
            image.ReferencedFrameNumber = reference.ReferencedFrameNumber
    objects = []
    for frame in study.group_frames():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.sop_class, frame.sop_uid
        objects.append(item)
    made.ReferencedSeriesSequence[0].ReferencedInstanceSequence = objects
    made.SourceImageSequence = [Dataset(item) for item in objects]
    return order


def _set_dimension_uids(study: ObjectContext, made: Segmentation, kind: SegmentationKind) -> None:
    """Return the organization of the dimensions a UID that is a function of the input too."""
    uid = study.derive_uid(kind, "dimensions")
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
