"""A network's card as prose: NAME.md."""

from __future__ import annotations

from typing import Any

from strokeseg.segmentation.models import Calibration, Card
from strokeseg.training.split import LEAKING

_SCORE_NAMES = {"iou": "IoU"}
SPLIT_NOTES = {
    "patient": "The split is by patient. The loader refuses the CT-ICH patients of the test sets.",
    LEAKING: "The split is by slice: patients are on both sides, and every validation figure is too good.",
}


def render_card(card: Card) -> str:
    """Render a card as Markdown: what the network is, its scores, its training data and its limits.

    Parameters
    ----------
    card : Card
        The card.

    Returns
    -------
    str
        Markdown.
    """
    lines = [
        f"# Model `{card.name}`, version {card.version}",
        "",
        f"{card.architecture}; input {card.size} x {card.size} pixels around the head, window 0..80 HU, "
        f"{card.precision}.",
        f"A pixel is marked if its probability is at least {card.threshold:g} (chosen on the validation patients).",
        "",
        "Written by `strokeseg train CONFIG --export`; do not edit.",
        "",
        "## Scores",
        "",
        *_metrics_lines(card.metrics),
        "",
        *_calibration_lines(card.calibration),
        *_whole_scan_lines(card),
        "## Trained on",
        "",
        "| set | description | training slices | validation slices | share of the samples | licence |",
        "|---|---|---|---|---|---|",
        *(_source_row(row) for row in card.training.get("sources", [])),
        "",
        SPLIT_NOTES[card.training.get("split", {}).get("by", "patient")],
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in card.limits),
        "",
        "## Licence",
        "",
        card.licence,
        "",
        f"SHA-256 of `{card.name}.onnx`: `{card.sha256}`",
        "",
    ]
    return "\n".join(lines)


def _source_row(row: dict[str, Any]) -> str:
    cells = (row["name"], row["about"], row["train"], row["validation"], f"{row['share']:.0%}", row["licence"])
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _metrics_lines(metrics: dict[str, Any]) -> list[str]:
    lines = ["| patients | number | Dice, mean over patients (95 % interval) |", "|---|---|---|"]
    test = metrics.get("test")
    if test:
        dice = _format_score(test["per_patient"]["dice"])
        lines.append(f"| {test['set']}: test; no choice was based on it | {test['patients']} | {dice} |")
    for name, row in metrics.get("validation", {}).get("sources", {}).items():
        lines.append(
            f"| {name}: validation; checkpoint and threshold were chosen on it | {row['patients']} | "
            f"{_format_score(row)} |"
        )
    quiet = metrics.get("validation", {}).get("slices_without_blood_and_without_answer")
    if quiet is not None:
        lines += ["", f"On {quiet:.0%} of the validation slices without hemorrhage the network marks no pixel."]
    if test:
        rest = ", ".join(
            f"{_SCORE_NAMES.get(name, name.replace('_', ' '))} {_format_score(score)}"
            for name, score in test["per_patient"].items()
            if name != "dice"
        )
        lines += ["", f"Further scores of the test patients: {rest}.", "", "To repeat: `strokeseg evaluate FOLDER`."]
    return lines


def _calibration_lines(calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return []
    lines = ["## Confidence and volume interval", ""]
    if blood := calibration.blood:
        score = calibration.figures["blood"]
        lines.append(
            f"- Probability of a hemorrhage: calibrated on {blood.scan.with_blood} validation patients with "
            f"hemorrhage and {blood.scan.without} without. With each patient left out once: Brier score "
            f"{score['brier']['value']:.3f}, false negatives {score['with_blood_answered_no']}, "
            f"false positives {score['without_answered_yes']}."
        )
    if volume := calibration.volume:
        lines.append(f"- Volume interval: {volume.level:.0%} level, from {volume.patients} validation patients.")
        if coverage := calibration.figures["volume"].get("coverage"):
            lines.append(
                f"  With each patient left out once, it contained the annotated volume of {_format_share(coverage)}."
            )
        if unseen := calibration.figures.get("unseen", {}).get("coverage"):
            missed = calibration.figures["unseen"]["unanswered"]
            lines.append(
                f"  For patients on whom no choice was based: {_format_share(unseen)}; missed, so without an interval: "
                f"{missed}."
            )
    return [
        *lines,
        "",
        "All annotated slices of a patient are treated as a scan; docs/calibration.md explains what that means.",
        "",
    ]


def _whole_scan_lines(card: Card) -> list[str]:
    figures = card.calibration.figures.get("whole_scans") if card.calibration else None
    if card.review is None or not figures:
        return []
    patients, found = figures["patients"], figures["lesions_found"]
    lines = [
        "## Whole scans",
        "",
        f"Whole CT-ICH patients, {patients['with_blood']} with hemorrhage and {patients['without']} without, each "
        "segmented by a network of the same recipe whose fine-tune never saw the patient, and judged by a second look "
        "and a curve that were fitted to the other patients. The network of 0.1.0, from which all start, saw slices "
        "with blood of most of the former, so sensitivity is optimistic:",
        "",
        "| operating point | lowest probability for the answer yes | sensitivity | specificity |",
        "|---|---|---|---|",
        *(
            f"| {name} | {point.decision:.2f} | {point.sensitivity:.2f} | {point.specificity:.2f} |"
            for name, point in card.operating_points.items()
            if point.sensitivity is not None and point.specificity is not None
        ),
        "",
        f"ROC-AUC by patient: {figures['auc']:.3f}. The second look dropped "
        f"{_format_share(figures['false_alarms_dropped'])} of the false lesions and kept "
        f"{_format_share(figures['lesions_kept'])} of the true ones.",
        "",
        "Smallest bleed that it finds: of the annotated lesions it marked",
        "",
        *(f"- {name} thick: {_format_share(share)}" for name, share in found.items()),
        "",
    ]
    return lines


def _format_share(share: dict[str, Any]) -> str:
    if not share["of"]:
        return "no patient"
    return f"{share['hits']} of {share['of']} (95 % interval {share['low']:.0%} to {share['high']:.0%})"


def _format_score(score: dict[str, Any]) -> str:
    value = score["dice"] if "dice" in score else score["value"]
    if value is None:
        return "undefined"
    if score["low"] is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({score['low']:.3f}–{score['high']:.3f})"
