"""Render an evaluation for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table

from strokeseg.evaluation.schema import Evaluation, Score

PIXEL_HEADINGS = {
    "dice": "Dice",
    "iou": "IoU",
    "average_precision": "AP",
    "precision": "Precision",
    "recall": "Recall",
}
_SINGLE_LEVEL_HEADINGS = {
    "dice_with_blood": ("Dice", "slices with blood"),
    "lesion_f1": ("Lesion F1", "patients"),
    "hd95_mm": ("HD95, mm", "patients with volumes"),
    "surface_dice_2mm": ("Surface Dice at 2 mm", "patients with volumes"),
    "volume_error_ml": ("Volume error, ml", "patients with spacing"),
    "volume_error_relative": ("Volume error, relative", "patients with blood"),
    "detection_auc": ("Detection ROC-AUC", "slices with and without blood"),
    "quiet": ("Quiet", "slices without blood"),
    "calibration_error": ("Calibration error", "pixels from 0.01 on"),
}


def render_table(evaluation: Evaluation) -> Group:
    """Render two tables: the metrics of pixels at three levels, and the metrics of one level."""
    return Group(_pixel_table(evaluation), "", _single_level_table(evaluation))


def _pixel_table(evaluation: Evaluation) -> Table:
    scored = "final mask" if evaluation.as_segmented else f"threshold {evaluation.threshold:g}"
    rendered = Table(
        title=f"{_count_words(evaluation.n_slices, 'slice')} of {_count_words(evaluation.n_patients, 'patient')}",
        caption=f"{scored}; AP: average precision; ({evaluation.interval_level:.0%} interval over patients)",
    )
    rendered.add_column("Metric")
    for heading in ("Mean of slices", "Mean of patients", "All pixels"):
        rendered.add_column(heading, justify="right")
    for metric, heading in PIXEL_HEADINGS.items():
        scores = (evaluation.per_slice, evaluation.per_patient, evaluation.pooled)
        rendered.add_row(heading, *(_format_score(getattr(each, metric)) for each in scores))
    return rendered


def _single_level_table(evaluation: Evaluation) -> Table:
    normals = evaluation.n_normal_slices
    rendered = Table(
        title=f"With {_count_words(normals, 'normal slice')}" if normals else None,
        caption="quiet: no pixel marked; docs/metrics.md defines each metric",
    )
    rendered.add_column("Metric")
    rendered.add_column("Over")
    rendered.add_column("Value", justify="right")
    for metric, (heading, over) in _SINGLE_LEVEL_HEADINGS.items():
        rendered.add_row(heading, over, _format_score(getattr(evaluation.further, metric)))
    return rendered


def _count_words(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _format_score(score: Score) -> str:
    if score.value is None:
        return "undefined"
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} ({score.low:.3f}–{score.high:.3f})"
