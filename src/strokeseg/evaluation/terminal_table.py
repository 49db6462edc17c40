"""Render an evaluation for a terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table

from strokeseg.evaluation.scan_tables import count_words, format_assumption, format_score, render_whole_scans
from strokeseg.evaluation.schema import Evaluation

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
    """Render two tables: the metrics of pixels at three levels, and the metrics of one level; for whole scans more."""
    whole = evaluation.whole_scans
    tables = [] if whole is None else render_whole_scans(whole, evaluation.interval_level)
    tables += [_pixel_table(evaluation), _single_level_table(evaluation)]
    return Group(*(part for table in tables for part in (table, "")))


def _pixel_table(evaluation: Evaluation) -> Table:
    scored = "final mask" if evaluation.as_segmented else f"threshold {evaluation.threshold:g}"
    rendered = Table(
        title=f"{count_words(evaluation.n_slices, 'slice')} of {count_words(evaluation.n_patients, 'patient')}",
        caption=f"{scored}; AP: average precision; ({evaluation.interval_level:.0%} interval over patients)",
    )
    rendered.add_column("Metric")
    for heading in ("Mean of slices", "Mean of patients", "All pixels"):
        rendered.add_column(heading, justify="right")
    for metric, heading in PIXEL_HEADINGS.items():
        scores = (evaluation.per_slice, evaluation.per_patient, evaluation.pooled)
        rendered.add_row(heading, *(format_score(getattr(each, metric)) for each in scores))
    return rendered


def _single_level_table(evaluation: Evaluation) -> Table:
    normals = evaluation.n_normal_slices
    rendered = Table(
        title=f"With {count_words(normals, 'normal slice')}" if normals else None,
        caption="quiet: no pixel marked; docs/metrics.md defines each metric" + _format_assumption(evaluation),
    )
    rendered.add_column("Metric")
    rendered.add_column("Over")
    rendered.add_column("Value", justify="right")
    for metric, (heading, over) in _SINGLE_LEVEL_HEADINGS.items():
        rendered.add_row(heading, over, format_score(getattr(evaluation.further, metric)))
    return rendered


def _format_assumption(evaluation: Evaluation) -> str:
    whole = evaluation.whole_scans
    return "" if whole is None or whole.spacing_assumed_mm is None else f"; {format_assumption(whole)}"
