"""The evaluation for a terminal."""

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
    "detection_auc": ("Detection ROC-AUC", "slices, with and without"),
    "quiet": ("Quiet", "slices without blood"),
    "calibration_error": ("Calibration error", "pixels from 0.01 on"),
    "seed_legacy_dice": ("seed_legacy Dice", "image columns with blood"),
    "seed_legacy_iou": ("seed_legacy IoU", "image columns with blood"),
}


def render_table(evaluation: Evaluation) -> Group:
    """Draw two tables: the metrics of pixels at three levels, and those of one level; intervals over patients."""
    return Group(_pixel_table(evaluation), "", _single_level_table(evaluation))


def _pixel_table(evaluation: Evaluation) -> Table:
    scored = "the finished mask" if evaluation.as_segmented else f"threshold {evaluation.threshold:g}"
    drawn = Table(
        title=f"{_count_words(evaluation.n_slices, 'slice')} of {_count_words(evaluation.n_patients, 'patient')}",
        caption=f"{scored}; AP is average precision; ({evaluation.interval_level:.0%} interval over patients)",
    )
    drawn.add_column("Metric")
    for heading in ("Mean of slices", "Mean of patients", "All pixels"):
        drawn.add_column(heading, justify="right")
    for metric, heading in PIXEL_HEADINGS.items():
        scores = (evaluation.per_slice, evaluation.per_patient, evaluation.pooled)
        drawn.add_row(heading, *(_format_score(getattr(each, metric)) for each in scores))
    return drawn


def _single_level_table(evaluation: Evaluation) -> Table:
    normals = evaluation.n_normal_slices
    drawn = Table(
        title=f"With {_count_words(normals, 'slice')} more without blood" if normals else None,
        caption="quiet: no pixel answered; seed_legacy: see docs/metrics.md",
    )
    drawn.add_column("Metric")
    drawn.add_column("Over")
    drawn.add_column("Value", justify="right")
    for metric, (heading, over) in _SINGLE_LEVEL_HEADINGS.items():
        drawn.add_row(heading, over, _format_score(getattr(evaluation.further, metric)))
    return drawn


def _count_words(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _format_score(score: Score) -> str:
    if score.value is None:
        return "undefined"
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} ({score.low:.3f}–{score.high:.3f})"
