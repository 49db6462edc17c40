"""The models of an evaluation's JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from strokeseg.result import ModelInfo


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(_Model):
    """A metric and its bootstrap interval; null if undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Scores(_Model):
    """The five metrics of pixels, defined in :mod:`strokeseg.evaluation.metrics`."""

    dice: Score
    iou: Score
    average_precision: Score
    precision: Score
    recall: Score


class SingleLevelScores(_Model):
    """The metrics that are defined at one level only, defined in docs/metrics.md."""

    dice_with_blood: Score = Field(description="mean over slices with blood")
    lesion_f1: Score = Field(description="mean over patients")
    hd95_mm: Score = Field(description="mean over patients with volumes, mm")
    surface_dice_2mm: Score = Field(description="mean over patients with volumes")
    volume_error_ml: Score = Field(description="mean over patients with known spacing of |prediction - truth|, ml")
    volume_error_relative: Score = Field(description="mean over patients with blood of |prediction - truth| / truth")
    detection_auc: Score = Field(description="slices with blood against slices without, normals included")
    quiet: Score = Field(description="share of the slices without blood, normals included, in which no pixel is marked")
    calibration_error: Score = Field(description="expected calibration error over all pixels from 0.01 on")


class ScoreRow(_Model):
    """The scores of one slice, or of all slices of a patient together; a metric is null if it is undefined."""

    name: str = Field(description="the image (for a volume with the index of the slice, inferior first) or the patient")
    patient: str
    slices: int
    truth_pixels: int
    predicted_pixels: int
    dice: float | None
    iou: float | None
    average_precision: float | None
    precision: float | None
    recall: float | None


class PatientRow(ScoreRow):
    """The scores of a patient; lesions and surfaces are counted in volumes, lesions of pictures in each slice."""

    lesions: int = Field(description="annotated lesions")
    lesions_found: int
    lesions_false: int = Field(description="predicted components that match no lesion")
    lesion_f1: float | None
    truth_ml: float | None
    predicted_ml: float | None
    volume_error_ml: float | None
    volume_error_relative: float | None
    hd95_mm: float | None
    surface_dice_2mm: float | None


class AnnotatedLesion(_Model):
    """An annotated lesion of a whole scan."""

    pixels: int
    volume_ml: float | None
    thickness_mm: float | None = Field(description="diameter of the largest circle inside it on a slice")
    matches: list[int] = Field(
        description="ids of the lesions in the answer whose intersection over union with it is 0.1 or more"
    )
    overlapped: bool = Field(description="whether the answer marks any of its pixels")


class AnsweredLesion(_Model):
    """A lesion of the answer, as in `result.json`."""

    id: int
    pixels: int = Field(description="known pixels")
    probability: float = Field(description="mean of the probability map over the lesion")


class ScanRow(_Model):
    """The answer for one whole scan beside its annotation; slices without a known pixel are left out."""

    name: str
    patient: str
    slices: int = Field(description="slices with a known pixel")
    blood: bool = Field(description="whether the scan holds blood")
    hemorrhage: bool = Field(description="whether the answer is yes")
    confidence: float | None = Field(description="probability of hemorrhage in the answer; null if not calibrated")
    detection_score: float = Field(description="highest score of a slice, see docs/metrics.md")
    truth_pixels: int
    predicted_pixels: int
    dice: float | None = Field(description="of all pixels; null if the scan holds blood that is not outlined")
    spacing_assumed: bool = Field(description="whether mm and ml are by the assumed spacing")
    truth_ml: float | None
    predicted_ml: float | None
    abc2_ml: float | None = Field(description="ABC/2 of the annotated lesions, summed up")
    volume_difference_relative: float | None = Field(description="(prediction - truth) / truth; needs no spacing")
    abc2_difference_relative: float | None = Field(description="(ABC/2 - truth) / truth; needs no in-plane spacing")
    lesions: list[AnnotatedLesion]
    answered_lesions: list[AnsweredLesion] = Field(
        description="without those that match no annotated lesion and whose truth is mostly unknown"
    )
    slice_blood: list[bool] = Field(description="of each slice: whether it holds blood")
    slice_score: list[float] = Field(description="of each slice: its detection score")
    slice_marked: list[bool] = Field(description="of each slice: whether the answer marks a pixel")


class RefusedScan(_Model):
    """A scan that `strokeseg segment` refuses; no other figure includes it."""

    name: str
    patient: str
    code: str


class VolumeScores(_Model):
    """Errors of the volume of scans with annotated blood; means over scans, but for the median."""

    median_error_relative: Score = Field(description="median of |volume - truth| / truth; small lesions rule the mean")
    error_relative: Score = Field(description="|volume - truth| / truth")
    bias_relative: Score = Field(description="(volume - truth) / truth")
    error_ml: Score = Field(description="|volume - truth|, ml")
    bias_ml: Score = Field(description="volume - truth, ml")


class LesionClass(_Model):
    """The annotated lesions of one size."""

    by: Literal["all", "thickness_mm", "volume_ml"]
    low: float = Field(description="smallest size; mm or ml")
    high: float | None = Field(description="sizes are below it; null for no limit")
    lesions: int
    found: Score = Field(description="share that a lesion of the answer matches")
    overlapped: Score = Field(description="share of which the answer marks a pixel")
    froc: list[float | None] = Field(
        description="share found with at most so many false lesions per scan: `froc_rates`"
    )


class FrocPoint(_Model):
    """A point of the FROC curve: the lesions of the answer from a probability on."""

    probability: float
    false_per_scan: float
    found: float | None = Field(description="share of the annotated lesions")


class WholeScanScores(_Model):
    """The answers of `strokeseg segment` for whole scans; docs/metrics.md defines each figure."""

    data_set: str | None = Field(description="built-in set; null for a folder of one's own")
    role: str | None = Field(description="only patients of this role were scored")
    unseen: list[str] = Field(description="files of splits whose training patients were left out")
    models: list[ModelInfo] = Field(description="one, or one for each fold")
    spacing_assumed_mm: tuple[float, float, float] | None = Field(
        description="(slice, row, column) that every figure in mm or ml of scans without a spacing uses: assumed"
    )
    n_scans: int
    n_patients_with_blood: int
    n_patients_without_blood: int
    refused: list[RefusedScan]
    sensitivity: Score = Field(description="share of patients with blood who are answered yes; Wilson's interval")
    specificity: Score = Field(description="share of patients without blood who are answered no; Wilson's interval")
    patient_auc: Score = Field(description="patients by their confidence; detection score if not calibrated")
    quiet_scans: Score = Field(description="share of the scans without blood in which no pixel is marked")
    quiet_slices: Score = Field(description="share of the slices without blood in which no pixel is marked")
    slice_auc: Score
    dice_empty_is_1: Score = Field(description="mean over all scans; no blood and no pixel marked counts as 1")
    dice_with_blood: Score = Field(description="mean over scans with annotated blood alone")
    volume: VolumeScores
    abc2: VolumeScores = Field(description="the same of ABC/2 of the annotated lesions, in place of the answer")
    false_ml: Score = Field(description="marked volume of scans without blood, ml")
    false_lesions: Score = Field(description="lesions of the answer that match no annotated one, per scan")
    lesions: list[LesionClass]
    froc_rates: list[float] = Field(description="false lesions per scan")
    froc: list[FrocPoint]
    scans: list[ScanRow]


class Evaluation(_Model):
    """The scores of a predictor on one set."""

    schema_: Literal["strokeseg.evaluation/3"] = Field(default="strokeseg.evaluation/3", alias="schema")
    threshold: float = Field(description="a pixel is blood if its probability is at least this")
    as_segmented: bool = Field(
        description="whether the final mask, without small components, is scored; else the probability map"
    )
    n_patients: int
    n_slices: int
    n_slices_with_blood: int
    n_normal_patients: int = Field(description="patients of the folder without blood who are not among n_patients")
    n_normal_slices: int = Field(description="slices of the folder without blood")
    interval_level: float
    bootstrap_draws: int
    bootstrap_seed: int
    per_slice: Scores = Field(description="mean over the slices for which the metric is defined")
    per_patient: Scores = Field(description="mean over patients of the metric of all pixels of a patient")
    pooled: Scores = Field(description="the metric of all pixels of all patients")
    further: SingleLevelScores
    whole_scans: WholeScanScores | None = Field(default=None, description="null unless whole scans were scored")
    slices: list[ScoreRow]
    patients: list[PatientRow]

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)
