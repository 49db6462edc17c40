"""DICOM structured report of the measures (PS3.16 TID 1500), each lesion's with a reference to its segment.

What was not measured is left out. An interval is two numbers of their own beside the volume, for many readers show no
properties of a number: see docs/dicom-outputs.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.seg import Segmentation
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.coding import Code

from strokeseg.outputs.dicom import codes, segmentations
from strokeseg.outputs.dicom.context import MANUFACTURER, MODEL_NAME, RESEARCH_NOTE, ObjectContext
from strokeseg.outputs.dicom.uids import derive_uid
from strokeseg.result import DISCLAIMER, Findings, Lesion, ResultDocument

KIND = "sr"
_SERIES_NUMBER = 7004
MeasurementGroup = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def make_report(study: ObjectContext, document: ResultDocument, segmentation: Segmentation | None) -> ComprehensiveSR:
    """Make the report.

    Parameters
    ----------
    document : ResultDocument
        The findings and remarks.
    segmentation : Segmentation or None
        Of the lesions; None where there are none.

    Returns
    -------
    ComprehensiveSR
        A Comprehensive SR with a group for the whole scan, one for the ventricles and one for the midline where they
        were measured, and one for each lesion.
    """
    found = document.findings
    groups: list[MeasurementGroup] = [_make_scan_group(study, document)]
    groups += [
        group for group in (_make_ventricle_group(study, found), _make_midline_group(study, found)) if group is not None
    ]
    if segmentation is not None:
        groups += [_make_lesion_group(study, lesion, segmentation) for lesion in found.lesions]
    evidence = study.make_evidence()
    made = ComprehensiveSR(
        evidence=evidence if segmentation is None else [*evidence, segmentation],
        content=MeasurementReport(
            observation_context=_make_observer(study),
            procedure_reported=codes.HEAD_CT,
            imaging_measurements=groups,
            title=codes.REPORT_TITLE,
        )[0],
        series_instance_uid=study.derive_uid(KIND, "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=study.derive_uid(KIND, "1"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=study.version,
        device_serial_number=study.serial_number,
        is_complete=True,
        is_final=False,
        series_description=f"StrokeSeg measurements ({RESEARCH_NOTE})",
        coding_schemes=[
            CodingSchemeIdentificationItem(codes.SCHEME, name=codes.SCHEME_NAME, responsible_organization=MANUFACTURER)
        ],
    )
    study.stamp(made, KIND)
    return made


def _make_observer(study: ObjectContext) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", study.software, study.model.sha256),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=study.software,
        serial_number=study.serial_number,
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=CodedConcept.from_code(codes.DEVICE), observer_identifying_attributes=device
        )
    )


def _make_scan_group(study: ObjectContext, document: ResultDocument) -> MeasurementsAndQualitativeEvaluations:
    """Return whether there is blood and how much; warnings and the disclaimer are comments."""
    found = document.findings
    low, high = found.volume_interval_ml or (None, None)
    numbers = [
        *_make_measurement(codes.VOLUME, found.volume_ml, codes.ML),
        *_make_measurement(codes.INTERVAL_LOW, low, codes.ML),
        *_make_measurement(codes.INTERVAL_HIGH, high, codes.ML),
        *_make_measurement(
            codes.INTERVAL_LEVEL, found.interval_level if found.volume_interval_ml else None, codes.NO_UNITS
        ),
        *_make_measurement(codes.CONFIDENCE, found.confidence, codes.NO_UNITS),
    ]
    group = _make_group(
        study,
        "whole scan",
        slices=sorted({index for one in found.lesions for index in range(one.slices[0], one.slices[1] + 1)}) or None,
        finding_type=codes.INTRACRANIAL if found.hemorrhage else None,
        finding_sites=[_make_site(codes.BRAIN, codes.get_side_code(found.side))],
        measurements=numbers,
        qualitative_evaluations=[_make_presence(found.hemorrhage)],
    )
    said = "Hemorrhage was found." if found.hemorrhage else "No hemorrhage was found, so there is no segmentation."
    warnings = [remark.message for remark in document.remarks if remark.severity == "warning"]
    for text in (said, *warnings, DISCLAIMER):
        group[0].ContentSequence.append(TextContentItem(codes.COMMENT, text, RelationshipTypeValues.CONTAINS))
    return group


def _make_ventricle_group(study: ObjectContext, found: Findings) -> MeasurementsAndQualitativeEvaluations | None:
    if found.intraventricular is None and found.intraventricular_ml is None:
        return None
    blood = found.intraventricular if found.intraventricular is not None else bool(found.intraventricular_ml)
    return _make_group(
        study,
        "ventricles",
        finding_type=codes.INTRACRANIAL if blood else None,
        finding_sites=[_make_site(codes.VENTRICLE)],
        measurements=[
            *_make_measurement(codes.VOLUME, found.intraventricular_ml, codes.ML),
            *_make_measurement(codes.VENTRICULAR_FRACTION, found.ventricular_share, codes.NO_UNITS),
        ],
        qualitative_evaluations=[_make_presence(blood)],
    )


def _make_midline_group(study: ObjectContext, found: Findings) -> MeasurementsAndQualitativeEvaluations | None:
    if found.midline_shift_mm is None:
        return None
    side = codes.get_side_code(found.midline_shift_side)
    return _make_group(
        study,
        "midline",
        slices=None if found.midline is None else [found.midline.slice],
        finding_type=codes.MIDLINE_SHIFT,
        finding_sites=[_make_site(codes.BRAIN)],
        measurements=_make_measurement(codes.MIDLINE_SHIFT, found.midline_shift_mm, codes.MM),
        qualitative_evaluations=[] if side is None else [QualitativeEvaluation(codes.LATERALITY, side)],
    )


def _make_group(
    study: ObjectContext,
    name: str,
    *,
    finding_type: Code | None,
    finding_sites: list[FindingSite],
    measurements: list[Measurement],
    qualitative_evaluations: list[QualitativeEvaluation],
    slices: Sequence[int] | None = None,
) -> MeasurementsAndQualitativeEvaluations:
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(study.derive_uid("group", name), f"StrokeSeg {name}"),
        finding_type=finding_type,
        algorithm_id=_make_algorithm(study),
        finding_sites=finding_sites,
        measurements=measurements,
        qualitative_evaluations=qualitative_evaluations,
        source_images=[
            SourceImageForMeasurementGroup(frame.sop_class, frame.sop_uid, numbers or None)
            for frame, numbers in study.group_frames(slices).items()
        ],
    )


def _make_lesion_group(
    study: ObjectContext, lesion: Lesion, segmentation: Segmentation
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    name, uid = segmentations.make_tracking(study, lesion.id)
    what = codes.choose_lesion_codes(lesion)
    first, last = lesion.slices
    slices = [
        index for index in segmentations.find_segment_slices(study, segmentation, lesion.id) if first <= index <= last
    ]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid, name),
        referenced_segment=ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            lesion.id,
            source_images=[
                SourceImageForSegmentation(frame.sop_class, frame.sop_uid, numbers or None)
                for frame, numbers in study.group_frames(slices).items()
            ],
        ),
        finding_category=codes.ABNORMAL_STRUCTURE,
        finding_type=what.finding,
        algorithm_id=_make_algorithm(study),
        finding_sites=[_make_site(what.site, what.side)],
        measurements=_make_lesion_measurements(lesion),
    )


def _make_lesion_measurements(lesion: Lesion) -> list[Measurement]:
    types = lesion.type_probabilities or {}
    return [
        *_make_measurement(codes.VOLUME, lesion.volume_ml, codes.ML),
        *_make_measurement(codes.ABC2, lesion.abc2_ml, codes.ML),
        *_make_measurement(codes.LONG_AXIS, lesion.max_diameter_mm, codes.MM),
        *_make_measurement(codes.ATTENUATION, lesion.mean_hu, codes.HU, codes.MEAN),
        *_make_measurement(codes.ATTENUATION, lesion.std_hu, codes.HU, codes.STANDARD_DEVIATION),
        *_make_measurement(codes.SURFACE_AREA, lesion.surface_mm2, codes.MM2),
        *_make_measurement(codes.SPHERICITY, lesion.sphericity, codes.NO_UNITS),
        *_make_measurement(codes.PROBABILITY, lesion.probability, codes.NO_UNITS),
        *_make_measurement(codes.VENTRICULAR_VOLUME, lesion.intraventricular_ml, codes.ML),
        *[
            item
            for kind, share in types.items()
            for item in _make_measurement(codes.TYPE_PROBABILITIES[kind], share, codes.NO_UNITS)
        ],
    ]


def _make_measurement(name: Code, value: float | None, unit: Code, derivation: Code | None = None) -> list[Measurement]:
    return [] if value is None else [Measurement(name, float(value), unit, derivation=derivation)]


def _make_site(site: Code, side: Code | None = None) -> FindingSite:
    return FindingSite(site, laterality=side)


def _make_presence(blood: bool) -> QualitativeEvaluation:
    return QualitativeEvaluation(codes.INTRACRANIAL, codes.PRESENT if blood else codes.ABSENT)


def _make_algorithm(study: ObjectContext) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=study.model.name,
        version=study.model.version,
        parameters=[f"{name}={value}" for name, value in study.parameters.items()],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )
