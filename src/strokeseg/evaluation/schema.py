"""The models of an evaluation's JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
    slices: list[ScoreRow]
    patients: list[PatientRow]

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)
