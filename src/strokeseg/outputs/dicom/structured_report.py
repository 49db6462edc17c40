"""DICOM structured report of the measurements (PS3.16 TID 1500); each lesion references its segment.

Values that were not measured are left out. An interval is written as two numbers beside the volume, since many viewers
do not show properties of a number: see docs/dicom-outputs.md.
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


def make_report(context: ObjectContext, document: ResultDocument, segmentation: Segmentation | None) -> ComprehensiveSR:
    """Make the structured report.

    Parameters
    ----------
    context : ObjectContext
        Attributes of all objects.
    document : ResultDocument
        Findings and remarks.
    segmentation : Segmentation or None
        Segmentation of the lesions; None if there are none.

    Returns
    -------
    ComprehensiveSR
        A report with one group for the whole scan, one for the ventricles and one for the midline if they were
        measured, and one for each lesion.
    """
    findings = document.findings
    groups: list[MeasurementGroup] = [_make_scan_group(context, document)]
    optional_groups = (_make_ventricle_group(context, findings), _make_midline_group(context, findings))
    groups += [group for group in optional_groups if group is not None]
    if segmentation is not None:
        groups += [_make_lesion_group(context, lesion, segmentation) for lesion in findings.lesions]
    evidence = context.make_evidence()
    report = ComprehensiveSR(
        evidence=evidence if segmentation is None else [*evidence, segmentation],
        content=MeasurementReport(
            observation_context=_make_observer(context),
            procedure_reported=codes.HEAD_CT,
            imaging_measurements=groups,
            title=codes.REPORT_TITLE,
        )[0],
        series_instance_uid=context.derive_uid(KIND, "series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=context.derive_uid(KIND, "1"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.version,
        device_serial_number=context.serial_number,
        is_complete=True,
        is_final=False,
        series_description=f"StrokeSeg measurements ({RESEARCH_NOTE})",
        coding_schemes=[
            CodingSchemeIdentificationItem(codes.SCHEME, name=codes.SCHEME_NAME, responsible_organization=MANUFACTURER)
        ],
    )
    context.stamp(report, KIND)
    return report


def _make_observer(context: ObjectContext) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", context.software, context.model.sha256),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=context.software,
        serial_number=context.serial_number,
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=CodedConcept.from_code(codes.DEVICE), observer_identifying_attributes=device
        )
    )


def _make_scan_group(context: ObjectContext, document: ResultDocument) -> MeasurementsAndQualitativeEvaluations:
    """Make the group of the whole scan: presence and volume of hemorrhage, with warnings and disclaimer as comments."""
    findings = document.findings
    low, high = findings.volume_interval_ml or (None, None)
    measurements = [
        *_make_measurement(codes.VOLUME, findings.volume_ml, codes.ML),
        *_make_measurement(codes.INTERVAL_LOW, low, codes.ML),
        *_make_measurement(codes.INTERVAL_HIGH, high, codes.ML),
        *_make_measurement(
            codes.INTERVAL_LEVEL, findings.interval_level if findings.volume_interval_ml else None, codes.NO_UNITS
        ),
        *_make_measurement(codes.CONFIDENCE, findings.confidence, codes.NO_UNITS),
    ]
    slices = {index for lesion in findings.lesions for index in range(lesion.slices[0], lesion.slices[1] + 1)}
    group = _make_group(
        context,
        "whole scan",
        slices=sorted(slices) or None,
        finding_type=codes.INTRACRANIAL if findings.hemorrhage else None,
        finding_sites=[_make_site(codes.BRAIN, codes.get_side_code(findings.side))],
        measurements=measurements,
        qualitative_evaluations=[_make_presence(findings.hemorrhage)],
    )
    summary = "Hemorrhage was detected."
    if not findings.hemorrhage:
        summary = "No hemorrhage was detected, so there is no segmentation."
    warnings = [remark.message for remark in document.remarks if remark.severity == "warning"]
    for text in (summary, *warnings, DISCLAIMER):
        group[0].ContentSequence.append(TextContentItem(codes.COMMENT, text, RelationshipTypeValues.CONTAINS))
    return group


def _make_ventricle_group(context: ObjectContext, findings: Findings) -> MeasurementsAndQualitativeEvaluations | None:
    if findings.intraventricular is None and findings.intraventricular_ml is None:
        return None
    is_present = (
        findings.intraventricular if findings.intraventricular is not None else bool(findings.intraventricular_ml)
    )
    return _make_group(
        context,
        "ventricles",
        finding_type=codes.INTRACRANIAL if is_present else None,
        finding_sites=[_make_site(codes.VENTRICLE)],
        measurements=[
            *_make_measurement(codes.VOLUME, findings.intraventricular_ml, codes.ML),
            *_make_measurement(codes.VENTRICULAR_FRACTION, findings.ventricular_share, codes.NO_UNITS),
        ],
        qualitative_evaluations=[_make_presence(is_present)],
    )


def _make_midline_group(context: ObjectContext, findings: Findings) -> MeasurementsAndQualitativeEvaluations | None:
    if findings.midline_shift_mm is None:
        return None
    side = codes.get_side_code(findings.midline_shift_side)
    return _make_group(
        context,
        "midline",
        slices=None if findings.midline is None else [findings.midline.slice],
        finding_type=codes.MIDLINE_SHIFT,
        finding_sites=[_make_site(codes.BRAIN)],
        measurements=_make_measurement(codes.MIDLINE_SHIFT, findings.midline_shift_mm, codes.MM),
        qualitative_evaluations=[] if side is None else [QualitativeEvaluation(codes.LATERALITY, side)],
    )


def _make_group(
    context: ObjectContext,
    name: str,
    *,
    finding_type: Code | None,
    finding_sites: list[FindingSite],
    measurements: list[Measurement],
    qualitative_evaluations: list[QualitativeEvaluation],
    slices: Sequence[int] | None = None,
) -> MeasurementsAndQualitativeEvaluations:
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(context.derive_uid("group", name), f"StrokeSeg {name}"),
        finding_type=finding_type,
        algorithm_id=_make_algorithm(context),
        finding_sites=finding_sites,
        measurements=measurements,
        qualitative_evaluations=qualitative_evaluations,
        source_images=[
            SourceImageForMeasurementGroup(frame.sop_class, frame.sop_uid, numbers or None)
            for frame, numbers in context.group_frames(slices).items()
        ],
    )


def _make_lesion_group(
    context: ObjectContext, lesion: Lesion, segmentation: Segmentation
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    name, uid = segmentations.make_tracking(context, lesion.id)
    lesion_codes = codes.choose_lesion_codes(lesion)
    first, last = lesion.slices
    slices = [
        index for index in segmentations.find_segment_slices(context, segmentation, lesion.id) if first <= index <= last
    ]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid, name),
        referenced_segment=ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            lesion.id,
            source_images=[
                SourceImageForSegmentation(frame.sop_class, frame.sop_uid, numbers or None)
                for frame, numbers in context.group_frames(slices).items()
            ],
        ),
        finding_category=codes.ABNORMAL_STRUCTURE,
        finding_type=lesion_codes.finding,
        algorithm_id=_make_algorithm(context),
        finding_sites=[_make_site(lesion_codes.site, lesion_codes.side)],
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


def _make_presence(is_present: bool) -> QualitativeEvaluation:
    return QualitativeEvaluation(codes.INTRACRANIAL, codes.PRESENT if is_present else codes.ABSENT)


def _make_algorithm(context: ObjectContext) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=context.model.name,
        version=context.model.version,
        parameters=[f"{name}={value}" for name, value in context.parameters.items()],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )
