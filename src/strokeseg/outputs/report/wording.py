"""Sentences, figures and tables of a result for the HTML report, the PDF and the notebook, all from `result.json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from strokeseg.outputs.report.texts import Texts
from strokeseg.result import Findings, Lesion, ResultDocument

Fact = tuple[str, str]
"""(label, value)"""

_MAX_NAMED_SLICES = 12


@dataclass(frozen=True)
class Figure:
    """One of the main figures; the value is None if it was not measured."""

    label: str
    value: str | None
    unit: str = ""


@dataclass(frozen=True)
class Column:
    """One column of the lesion table: its title, its unit, the text of a cell, and the reason for an empty cell."""

    title: str
    unit: str
    text: Callable[[Lesion], str | None]
    reason: str


def summarize(document: ResultDocument, texts: Texts) -> str:
    """Summarize the result in one sentence, with the volume if it is known; slices are counted from 1."""
    findings, count = document.findings, document.input.slices
    if not findings.hemorrhage:
        return texts("summary.negative", slices=texts.pluralize("slices", count))
    first = min((lesion.slices[0] for lesion in findings.lesions), default=0) + 1
    last = max((lesion.slices[1] for lesion in findings.lesions), default=count - 1) + 1
    where = texts("summary.where.one" if first == last else "summary.where.many", first=first, last=last)
    lesions = texts.pluralize("lesions", len(findings.lesions)) if findings.lesions else texts("summary.hemorrhage")
    volume = format_number(findings.volume_ml, 1)
    total = "" if volume is None else texts("summary.volume", volume=volume)
    return texts("summary.positive", lesions=lesions, where=where, count=count, volume=total)


def list_figures(document: ResultDocument, texts: Texts) -> list[Figure]:
    """List the main figures; without hemorrhage, figures that were not measured are left out."""
    findings = document.findings
    figures: list[Figure] = []
    if findings.hemorrhage:
        slices = {index for lesion in findings.lesions for index in range(lesion.slices[0], lesion.slices[1] + 1)}
        positive_slices = texts("figure.slices.value", part=len(slices), count=document.input.slices)
        figures = [
            Figure(texts("figure.volume"), format_number(findings.volume_ml, 1), "ml"),
            Figure(texts("figure.lesions"), str(len(findings.lesions))),
            Figure(texts("figure.slices"), positive_slices if slices else None),
        ]
    if findings.volume_interval_ml is not None:
        low, high = (format_number(value, 1) for value in findings.volume_interval_ml)
        level = f"{findings.interval_level:.0%}" if findings.interval_level else ""
        label = texts("figure.interval.level", level=level) if level else texts("figure.interval")
        figures.insert(1, Figure(label, texts("range", low=low, high=high), "ml"))
    if findings.confidence is not None:
        figures.append(Figure(texts("figure.confidence"), format_number(findings.confidence, 2)))
    if findings.side is not None:
        figures.append(Figure(texts("figure.side"), texts.translate_value(findings.side)))
    if findings.midline_shift_mm is not None:
        side = texts.translate_value(findings.midline_shift_side)
        unit = texts("figure.shift.unit", side=side) if side else "mm"
        figures.append(Figure(texts("figure.shift"), format_number(findings.midline_shift_mm, 1), unit))
    return figures + (_list_ventricle_figures(findings, texts) if findings.hemorrhage else [])


def _list_ventricle_figures(findings: Findings, texts: Texts) -> list[Figure]:
    def format_answer(value: bool | None) -> str | None:
        return None if value is None else texts("yes" if value else "no")

    figures = [Figure(texts("figure.in_ventricles"), format_answer(findings.intraventricular))]
    if findings.intraventricular and findings.intraventricular_ml is not None:
        share = findings.ventricular_share
        unit = "ml" if share is None else texts("figure.ventricles.share", share=f"{share:.0%}")
        figures.append(Figure(texts("figure.ventricles"), format_number(findings.intraventricular_ml, 1), unit))
    if (parts := findings.ich_score_parts) is not None:
        figures += [
            Figure(texts("figure.score.volume"), format_answer(parts.volume_30_ml_or_more)),
            Figure(texts("figure.score.infratentorial"), format_answer(parts.infratentorial)),
        ]
    return figures


def list_columns(document: ResultDocument, texts: Texts) -> list[Column]:
    """List the columns of the lesion table, each with the reason for an empty cell."""
    version = texts("reason.version")
    length = version if document.input.pixel_spacing_mm else texts("reason.spacing")
    volume = length if document.input.slice_weights_mm or length != version else texts("reason.thickness")
    density = version if document.input.calibrated else texts("reason.density")
    columns = [
        Column(texts("column.slices"), "", lambda lesion: _format_slices(lesion, texts), version),
        Column(texts("column.side"), "", lambda lesion: texts.translate_value(lesion.side), version),
        Column(texts("column.location"), "", lambda lesion: _format_location(lesion, texts), version),
        Column(texts("column.volume"), "ml", lambda lesion: format_number(lesion.volume_ml, 1), volume),
        Column(texts("column.abc2"), "ml", lambda lesion: format_number(lesion.abc2_ml, 1), volume),
        Column(texts("column.diameter"), "mm", lambda lesion: format_number(lesion.max_diameter_mm, 0), length),
        Column(
            texts("column.ventricles"),
            "ml",
            lambda lesion: format_number(lesion.intraventricular_ml, 1),
            texts("reason.ventricles"),
        ),
        Column(texts("column.sphericity"), "", lambda lesion: format_number(lesion.sphericity, 2), volume),
        Column(texts("column.density"), "HU", lambda lesion: format_number(lesion.mean_hu, 0), density),
        Column(texts("column.deviation"), "HU", lambda lesion: format_number(lesion.std_hu, 0), density),
        Column(texts("column.probability"), "", lambda lesion: format_number(lesion.probability, 2), version),
        Column(texts("column.pixels"), "", lambda lesion: f"{lesion.pixels:,}", version),
    ]
    if any(lesion.signs or lesion.type_probabilities for lesion in document.findings.lesions):
        columns += [
            Column(texts("column.type"), "", lambda lesion: _format_type(lesion, texts), texts("reason.type")),
            Column(texts("column.signs"), "", lambda lesion: _format_signs(lesion, texts), texts("reason.signs")),
        ]
    return columns


def explain_empty_cells(columns: list[Column], findings: Findings, texts: Texts) -> list[str]:
    """Return one sentence for each reason for empty cells, with the titles of its columns."""
    titles: dict[str, list[str]] = {}
    for column in columns:
        if any(column.text(lesion) is None for lesion in findings.lesions):
            titles.setdefault(column.reason, []).append(column.title)
    return [texts("reason", titles=", ".join(names), reason=reason) for reason, names in titles.items()]


def format_remark_slices(indices: list[int], texts: Texts) -> str:
    """List the first twelve slices of a remark, counted from 1; empty if there are none."""
    if not indices:
        return ""
    numbers = ", ".join(str(index + 1) for index in indices[:_MAX_NAMED_SLICES])
    return texts("remarks.slices.more" if len(indices) > _MAX_NAMED_SLICES else "remarks.slices", slices=numbers)


def list_input_facts(document: ResultDocument, texts: Texts) -> list[Fact]:
    """List the properties of the input."""
    info, unknown = document.input, texts("not_known")
    weights, spacing = info.slice_weights_mm, info.pixel_spacing_mm
    step = unknown
    if weights:
        low, high = f"{min(weights):.3g}", f"{max(weights):.3g}"
        even = max(weights) - min(weights) <= 0.01
        step = texts("input.step.value", step=low if even else texts("range", low=low, high=high))
    size = texts(
        "input.size.value", slices=texts.pluralize("slices", info.slices), rows=info.rows, columns=info.columns
    )
    area = texts("input.spacing.value", row=f"{spacing[0]:.3g}", column=f"{spacing[1]:.3g}") if spacing else unknown
    facts = [
        (texts("input.kind"), texts("input.kind.value", kind=info.kind, status=texts.translate_value(document.status))),
        (texts("input.size"), size),
        (texts("input.spacing"), area),
        (texts("input.step"), step),
        (texts("input.tilt"), texts("input.tilt.value", tilt=f"{info.tilt_deg:.1f}") if spacing else unknown),
        (texts("input.calibrated"), texts("yes" if info.calibrated else "input.calibrated.no")),
    ]
    if info.window:
        facts.append((texts("input.window"), format_window(info.window, texts)))
    if info.series_uid:
        facts.append((texts("input.series"), info.series_uid))
    return facts


def list_model_facts(document: ResultDocument, texts: Texts) -> list[Fact]:
    """List the properties of the model and the software."""
    model = document.model
    return [
        (texts("model.name"), f"{model.name} {model.version}"),
        (texts("model.checksum"), texts("model.checksum.value", digest=model.sha256[:12])),
        (texts("model.threshold"), f"{model.threshold:.3g}"),
        (texts("model.engine"), texts("model.engine.value", engine=model.engine, precision=model.precision)),
        (texts("model.software"), document.software),
    ]


def list_time_facts(document: ResultDocument, texts: Texts) -> list[Fact]:
    """List the duration of each step."""
    steps = document.timing_s.model_dump()
    return [(texts(f"time.{step}"), texts("time.value", seconds=f"{duration:.2f}")) for step, duration in steps.items()]


def format_window(centre_and_width: tuple[float, float], texts: Texts) -> str:
    """Format a window as its centre and width."""
    centre, width = centre_and_width
    return texts("stack.window.at", centre=f"{centre:g}", width=f"{width:g}")


def format_number(value: float | None, digits: int) -> str | None:
    """Round a number, but keep small values above zero: 0.04 ml is not "0.0 ml"; None stays None."""
    if value is None:
        return None
    return f"{value:.2g}" if digits and 0 < abs(value) < 0.5 * 10.0**-digits else f"{value:,.{digits}f}"


def _format_slices(lesion: Lesion, texts: Texts) -> str:
    first, last = (index + 1 for index in lesion.slices)
    return str(first) if first == last else texts("range", low=first, high=last)


def _format_location(lesion: Lesion, texts: Texts) -> str | None:
    """Return the location, with the side of the tentorium unless the location implies it."""
    location = texts.translate_value(lesion.place)
    if lesion.place in (None, "cerebellum", "brainstem") or lesion.tentorium in (None, "unsure"):
        return location
    return texts("location", location=location, tentorium=texts.translate_value(lesion.tentorium))


def _format_type(lesion: Lesion, texts: Texts) -> str | None:
    if not lesion.type_probabilities:
        return None
    name, share = max(lesion.type_probabilities.items(), key=lambda item: item[1])
    return texts("type", type=texts.translate_value(name), share=f"{share:.0%}")


def _format_signs(lesion: Lesion, texts: Texts) -> str | None:
    if lesion.signs is None:
        return None
    present = [str(texts.translate_value(name)) for name, is_present in lesion.signs.model_dump().items() if is_present]
    return ", ".join(present) or texts("value.none")
