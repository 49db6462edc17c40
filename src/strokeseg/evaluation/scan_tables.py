"""Render the scores of whole scans for a terminal, and their words for a page."""

from __future__ import annotations

from rich.table import Table

from strokeseg.evaluation.schema import LesionClass, Score, WholeScanScores

SCAN_HEADINGS = {
    "sensitivity": ("Sensitivity", "patients with blood"),
    "specificity": ("Specificity", "patients without blood"),
    "patient_auc": ("ROC-AUC", "patients"),
    "quiet_scans": ("Quiet", "scans without blood"),
    "quiet_slices": ("Quiet", "slices without blood"),
    "slice_auc": ("ROC-AUC", "slices"),
    "dice_empty_is_1": ("Dice, both empty: 1", "scans"),
    "dice_with_blood": ("Dice", "scans with blood alone"),
    "false_lesions": ("False lesions", "per scan"),
}
VOLUME_HEADINGS = {
    "median_error_relative": "Median error, relative",
    "error_relative": "Error, relative",
    "bias_relative": "Bias, relative",
    "error_ml": "Error, ml",
    "bias_ml": "Bias, ml",
}
_UNITS = {"thickness_mm": "mm thick", "volume_ml": "ml"}
_SHOWN_RATES = (0.25, 0.5, 1.0, 2.0)


def render_whole_scans(scores: WholeScanScores, level: float) -> list[Table]:
    """Render three tables: the figures of patients and scans, the volumes, and the lesions by size."""
    return [_scan_table(scores, level), _volume_table(scores), _lesion_table(scores)]


def _scan_table(scores: WholeScanScores, level: float) -> Table:
    refused = f"; {count_words(len(scores.refused), 'scan')} refused, not scored" if scores.refused else ""
    rendered = Table(
        title=f"{count_words(scores.n_scans, 'whole scan')}: {scores.n_patients_with_blood} patients with blood, "
        f"{scores.n_patients_without_blood} without",
        caption=f"({level:.0%} interval over patients){refused}",
    )
    rendered.add_column("Metric")
    rendered.add_column("Over")
    rendered.add_column("Value", justify="right")
    for metric, (heading, over) in SCAN_HEADINGS.items():
        rendered.add_row(heading, over, format_score(getattr(scores, metric)))
    return rendered


def _volume_table(scores: WholeScanScores) -> Table:
    assumed = f"; {format_assumption(scores)}" if scores.spacing_assumed_mm else ""
    rendered = Table(
        title="Volume of scans with annotated blood",
        caption=f"ABC/2: of the annotated lesions, not of the answer{assumed}",
    )
    rendered.add_column("Metric")
    rendered.add_column("StrokeSeg", justify="right")
    rendered.add_column("ABC/2", justify="right")
    for metric, heading in VOLUME_HEADINGS.items():
        rendered.add_row(
            heading, format_score(getattr(scores.volume, metric)), format_score(getattr(scores.abc2, metric))
        )
    rendered.add_row("Volume in scans without blood, ml", format_score(scores.false_ml), "")
    return rendered


def _lesion_table(scores: WholeScanScores) -> Table:
    assumed = f"; {format_assumption(scores)}" if scores.spacing_assumed_mm else ""
    rendered = Table(
        title="Annotated lesions by size",
        caption=f"found: intersection over union of 0.1; at N: with at most N false lesions per scan{assumed}",
    )
    rendered.add_column("Size")
    rendered.add_column("Lesions", justify="right")
    rendered.add_column("Found", justify="right")
    rendered.add_column("Overlapped", justify="right")
    shown = [scores.froc_rates.index(rate) for rate in _SHOWN_RATES]
    for rate in _SHOWN_RATES:
        rendered.add_column(f"at {rate:g}", justify="right")
    for each in scores.lesions:
        found = [format_number(each.froc[index]) for index in shown]
        rendered.add_row(
            name_class(each), str(each.lesions), format_score(each.found), format_score(each.overlapped), *found
        )
    return rendered


def name_class(lesions: LesionClass) -> str:
    """Name a class of lesions, as "5 to 10 mm thick"."""
    if lesions.by == "all":
        return "all"
    unit = _UNITS[lesions.by]
    if lesions.high is None:
        return f"{lesions.low:g} {unit} and more"
    return f"{lesions.low:g} to {lesions.high:g} {unit}" if lesions.low else f"under {lesions.high:g} {unit}"


def format_assumption(scores: WholeScanScores) -> str:
    """Name the assumed spacing, for every table that holds mm or ml."""
    assert scores.spacing_assumed_mm is not None
    slice_mm, row_mm, column_mm = scores.spacing_assumed_mm
    return f"mm and ml by an assumed spacing of {row_mm:g} x {column_mm:g} x {slice_mm:g} mm"


def count_words(number: int, what: str) -> str:
    """Format a count, as "1 slice" or "2 slices"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def format_score(score: Score) -> str:
    """Format a score with its interval."""
    if score.value is None:
        return "undefined"
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    between = "–" if score.low >= 0 else " to "
    return f"{score.value:.3f} ({score.low:.3f}{between}{score.high:.3f})"


def format_number(value: float | None) -> str:
    """Format a share, or a dash where there is none."""
    return "–" if value is None else f"{value:.2f}"
