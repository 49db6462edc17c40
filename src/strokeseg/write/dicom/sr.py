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

from strokeseg.result import DISCLAIMER, Findings, Lesion, ResultDocument
from strokeseg.write.dicom import codes, seg
from strokeseg.write.dicom.study import MANUFACTURER, MODEL_NAME, NOTE, Study
from strokeseg.write.dicom.uids import derived

KIND = "sr"
_NUMBER = 7004
Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def report(study: Study, document: ResultDocument, segmentation: Segmentation | None) -> ComprehensiveSR:
    """Make the report.

    Parameters
    ----------
    document : the findings and remarks
    segmentation : of the lesions; None where there are none

    Returns
    -------
    A Comprehensive SR with a group for the whole scan, one for the ventricles and one for the midline where they were
    measured, and one for each lesion
    """
    found = document.findings
    groups: list[Group] = [_whole(study, document)]
    groups += [group for group in (_ventricles(study, found), _midline(study, found)) if group is not None]
    if segmentation is not None:
        groups += [_lesion(study, lesion, segmentation) for lesion in found.lesions]
    evidence = study.evidence()
    made = ComprehensiveSR(
        evidence=evidence if segmentation is None else [*evidence, segmentation],
        content=MeasurementReport(
            observation_context=_observer(study),
            procedure_reported=codes.HEAD_CT,
            imaging_measurements=groups,
            title=codes.REPORT_TITLE,
        )[0],
        series_instance_uid=study.uid(KIND, "series"),
        series_number=_NUMBER,
        sop_instance_uid=study.uid(KIND, "1"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=study.version,
        device_serial_number=study.serial,
        is_complete=True,
        is_final=False,
        series_description=f"StrokeSeg measurements ({NOTE})",
        coding_schemes=[
            CodingSchemeIdentificationItem(codes.SCHEME, name=codes.SCHEME_NAME, responsible_organization=MANUFACTURER)
        ],
    )
    study.stamp(made, KIND)
    return made


def _observer(study: Study) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=derived("device", study.software, study.model.sha256),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=study.software,
        serial_number=study.serial,
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=CodedConcept.from_code(codes.DEVICE), observer_identifying_attributes=device
        )
    )


def _whole(study: Study, document: ResultDocument) -> MeasurementsAndQualitativeEvaluations:
    """Say whether there is blood and how much; warnings and the disclaimer are comments."""
    found = document.findings
    low, high = found.volume_interval_ml or (None, None)
    numbers = [
        *_number(codes.VOLUME, found.volume_ml, codes.ML),
        *_number(codes.VOLUME_LOW, low, codes.ML),
        *_number(codes.VOLUME_HIGH, high, codes.ML),
        *_number(codes.INTERVAL_LEVEL, found.interval_level if found.volume_interval_ml else None, codes.NO_UNITS),
        *_number(codes.CONFIDENCE, found.confidence, codes.NO_UNITS),
    ]
    group = _scan_group(
        study,
        "whole scan",
        slices=sorted({index for one in found.lesions for index in range(one.slices[0], one.slices[1] + 1)}) or None,
        finding_type=codes.INTRACRANIAL if found.hemorrhage else None,
        finding_sites=[_site(codes.BRAIN, codes.side(found.side))],
        measurements=numbers,
        qualitative_evaluations=[_is_there(found.hemorrhage)],
    )
    said = "Hemorrhage was found." if found.hemorrhage else "No hemorrhage was found, so there is no segmentation."
    warnings = [remark.message for remark in document.remarks if remark.severity == "warning"]
    for text in (said, *warnings, DISCLAIMER):
        group[0].ContentSequence.append(TextContentItem(codes.COMMENT, text, RelationshipTypeValues.CONTAINS))
    return group


def _ventricles(study: Study, found: Findings) -> MeasurementsAndQualitativeEvaluations | None:
    if found.intraventricular is None and found.intraventricular_ml is None:
        return None
    blood = found.intraventricular if found.intraventricular is not None else bool(found.intraventricular_ml)
    return _scan_group(
        study,
        "ventricles",
        finding_type=codes.INTRACRANIAL if blood else None,
        finding_sites=[_site(codes.VENTRICLE)],
        measurements=[
            *_number(codes.VOLUME, found.intraventricular_ml, codes.ML),
            *_number(codes.VENTRICULAR_SHARE, found.ventricular_share, codes.NO_UNITS),
        ],
        qualitative_evaluations=[_is_there(blood)],
    )


def _midline(study: Study, found: Findings) -> MeasurementsAndQualitativeEvaluations | None:
    if found.midline_shift_mm is None:
        return None
    side = codes.side(found.midline_shift_side)
    return _scan_group(
        study,
        "midline",
        slices=None if found.midline is None else [found.midline.slice],
        finding_type=codes.MIDLINE_SHIFT,
        finding_sites=[_site(codes.BRAIN)],
        measurements=_number(codes.MIDLINE_SHIFT, found.midline_shift_mm, codes.MM),
        qualitative_evaluations=[] if side is None else [QualitativeEvaluation(codes.LATERALITY, side)],
    )


def _scan_group(
    study: Study,
    name: str,
    *,
    finding_type: Code | None,
    finding_sites: list[FindingSite],
    measurements: list[Measurement],
    qualitative_evaluations: list[QualitativeEvaluation],
    slices: Sequence[int] | None = None,
) -> MeasurementsAndQualitativeEvaluations:
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(study.uid("group", name), f"StrokeSeg {name}"),
        finding_type=finding_type,
        algorithm_id=_algorithm(study),
        finding_sites=finding_sites,
        measurements=measurements,
        qualitative_evaluations=qualitative_evaluations,
        source_images=[
            SourceImageForMeasurementGroup(frame.sop_class, frame.sop_uid, numbers or None)
            for frame, numbers in study.frames(slices).items()
        ],
    )


def _lesion(
    study: Study, lesion: Lesion, segmentation: Segmentation
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    name, uid = seg.tracking(study, lesion.id)
    what = codes.kind(lesion)
    first, last = lesion.slices
    slices = [index for index in seg.slices_of(study, segmentation, lesion.id) if first <= index <= last]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid, name),
        referenced_segment=ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            lesion.id,
            source_images=[
                SourceImageForSegmentation(frame.sop_class, frame.sop_uid, numbers or None)
                for frame, numbers in study.frames(slices).items()
            ],
        ),
        finding_category=codes.ABNORMAL,
        finding_type=what.finding,
        algorithm_id=_algorithm(study),
        finding_sites=[_site(what.site, what.side)],
        measurements=_numbers(lesion),
    )


def _numbers(lesion: Lesion) -> list[Measurement]:
    types = lesion.type_probabilities or {}
    return [
        *_number(codes.VOLUME, lesion.volume_ml, codes.ML),
        *_number(codes.ABC2, lesion.abc2_ml, codes.ML),
        *_number(codes.LONG_AXIS, lesion.max_diameter_mm, codes.MM),
        *_number(codes.ATTENUATION, lesion.mean_hu, codes.HU, codes.MEAN),
        *_number(codes.ATTENUATION, lesion.std_hu, codes.HU, codes.DEVIATION),
        *_number(codes.SURFACE, lesion.surface_mm2, codes.MM2),
        *_number(codes.SPHERICITY, lesion.sphericity, codes.NO_UNITS),
        *_number(codes.PROBABILITY, lesion.probability, codes.NO_UNITS),
        *_number(codes.VENTRICULAR_VOLUME, lesion.intraventricular_ml, codes.ML),
        *[
            item
            for kind, share in types.items()
            for item in _number(codes.TYPE_PROBABILITIES[kind], share, codes.NO_UNITS)
        ],
    ]


def _number(name: Code, value: float | None, unit: Code, derivation: Code | None = None) -> list[Measurement]:
    return [] if value is None else [Measurement(name, float(value), unit, derivation=derivation)]


def _site(site: Code, side: Code | None = None) -> FindingSite:
    return FindingSite(site, laterality=side)


def _is_there(blood: bool) -> QualitativeEvaluation:
    return QualitativeEvaluation(codes.INTRACRANIAL, codes.PRESENT if blood else codes.ABSENT)


def _algorithm(study: Study) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=study.model.name,
        version=study.model.version,
        parameters=[f"{name}={value}" for name, value in study.parameters.items()],
        family=codes.AI,
        manufacturer=MANUFACTURER,
    )
