"""What an evaluation holds: the models that are its JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(_Model):
    """A metric and its bootstrap interval; null where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Scores(_Model):
    """The five metrics of pixels; definitions in :mod:`strokeseg.evaluation.metrics`."""

    dice: Score
    iou: Score
    average_precision: Score
    precision: Score
    recall: Score


class SingleLevelScores(_Model):
    """The metrics that are defined at one level only; definitions in docs/metrics.md."""

    dice_with_blood: Score = Field(description="mean over slices with blood")
    lesion_f1: Score = Field(description="mean over patients")
    hd95_mm: Score = Field(description="mean over patients with volumes, mm")
    surface_dice_2mm: Score = Field(description="mean over patients with volumes")
    volume_error_ml: Score = Field(description="mean over patients of |answer - truth|, where the spacing is known, ml")
    volume_error_relative: Score = Field(description="mean over patients with blood of |answer - truth| / truth")
    detection_auc: Score = Field(description="slices with blood against slices without, the normals among them")
    quiet: Score = Field(description="share of slices without blood, the normals among them, with no pixel answered")
    calibration_error: Score = Field(description="expected calibration error over all pixels from 0.01 on")
    seed_legacy_dice: Score = Field(description="the predecessor's: mean over image columns with blood")
    seed_legacy_iou: Score = Field(description="the predecessor's: mean over image columns with blood")


class ScoreRow(_Model):
    """One slice, or all slices of a patient together; a metric is null where it is undefined."""

    name: str = Field(description="the image (of a volume with the slice's index, inferior first), or the patient")
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
    """All slices of a patient together; lesions and surfaces are those of a volume, or of each slice alone."""

    lesions: int = Field(description="drawn in the truth")
    lesions_found: int
    lesions_false: int = Field(description="components of the answer that find no lesion")
    lesion_f1: float | None
    truth_ml: float | None
    predicted_ml: float | None
    volume_error_ml: float | None
    volume_error_relative: float | None
    hd95_mm: float | None
    surface_dice_2mm: float | None


class Evaluation(_Model):
    """How good a predictor is on one set."""

    schema_: Literal["strokeseg.evaluation/2"] = Field(default="strokeseg.evaluation/2", alias="schema")
    threshold: float = Field(description="a pixel is blood where its probability is at least this")
    as_segmented: bool = Field(description="the mask scored is the finished one, without specks; else the cut map")
    n_patients: int
    n_slices: int
    n_slices_with_blood: int
    n_normal_patients: int = Field(description="of the folder without blood, those who are not among n_patients")
    n_normal_slices: int = Field(description="of the folder without blood")
    interval_level: float
    bootstrap_draws: int
    bootstrap_seed: int
    per_slice: Scores = Field(description="mean over slices where the metric is defined")
    per_patient: Scores = Field(description="mean over patients of the metric of all of the patient's pixels")
    pooled: Scores = Field(description="the metric of all pixels of all patients")
    further: SingleLevelScores
    slices: list[ScoreRow]
    patients: list[PatientRow]

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)
