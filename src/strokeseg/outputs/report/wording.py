"""A result in words and figures, for page, PDF and notebook alike. All of it comes from `result.json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from strokeseg.outputs.report.texts import Texts
from strokeseg.result import Findings, Lesion, ResultDocument

Fact = tuple[str, str]
"""(what, its value)"""

_MAX_NAMED_SLICES = 12


@dataclass(frozen=True)
class Figure:
    """One of the few numbers at the top; the value is None where it was not measured."""

    label: str
    value: str | None
    unit: str = ""


@dataclass(frozen=True)
class Column:
    """One column of the table of lesions: its title, unit, how a cell reads, and why a cell is empty."""

    title: str
    unit: str
    text: Callable[[Lesion], str | None]
    reason: str


def summarize(document: ResultDocument, say: Texts) -> str:
    """Say what was found in one sentence; a volume only where it is known. Slices are counted from 1."""
    found, count = document.findings, document.input.slices
    if not found.hemorrhage:
        return say("summary.none", slices=say.pluralize("slices", count))
    first = min((lesion.slices[0] for lesion in found.lesions), default=0) + 1
    last = max((lesion.slices[1] for lesion in found.lesions), default=count - 1) + 1
    where = say("summary.where.one" if first == last else "summary.where.many", first=first, last=last)
    regions = say.pluralize("regions", len(found.lesions)) if found.lesions else say("summary.bleeding")
    volume = format_number(found.volume_ml, 1)
    total = "" if volume is None else say("summary.volume", volume=volume)
    return say("summary.found", regions=regions, where=where, count=count, volume=total)


def list_figures(document: ResultDocument, say: Texts) -> list[Figure]:
    """Return the few figures at the top; what was not measured of no bleeding is left out."""
    found = document.findings
    given: list[Figure] = []
    if found.hemorrhage:
        slices = {index for lesion in found.lesions for index in range(lesion.slices[0], lesion.slices[1] + 1)}
        with_bleeding = say("figure.slices.value", part=len(slices), count=document.input.slices)
        given = [
            Figure(say("figure.volume"), format_number(found.volume_ml, 1), "ml"),
            Figure(say("figure.regions"), str(len(found.lesions))),
            Figure(say("figure.slices"), with_bleeding if slices else None),
        ]
    if found.volume_interval_ml is not None:
        low, high = (format_number(value, 1) for value in found.volume_interval_ml)
        level = f"{found.interval_level:.0%}" if found.interval_level else ""
        label = say("figure.interval.level", level=level) if level else say("figure.interval")
        given.insert(1, Figure(label, say("range", low=low, high=high), "ml"))
    if found.confidence is not None:
        given.append(Figure(say("figure.confidence"), format_number(found.confidence, 2)))
    if found.side is not None:
        given.append(Figure(say("figure.side"), say.translate_value(found.side)))
    if found.midline_shift_mm is not None:
        side = say.translate_value(found.midline_shift_side)
        unit = say("figure.shift.unit", side=side) if side else "mm"
        given.append(Figure(say("figure.shift"), format_number(found.midline_shift_mm, 1), unit))
    return given + (_list_ventricle_figures(found, say) if found.hemorrhage else [])


def _list_ventricle_figures(found: Findings, say: Texts) -> list[Figure]:
    def answer(value: bool | None) -> str | None:
        return None if value is None else say("yes" if value else "no")

    given = [Figure(say("figure.in_ventricles"), answer(found.intraventricular))]
    if found.intraventricular and found.intraventricular_ml is not None:
        share = found.ventricular_share
        unit = "ml" if share is None else say("figure.ventricles.share", share=f"{share:.0%}")
        given.append(Figure(say("figure.ventricles"), format_number(found.intraventricular_ml, 1), unit))
    if (parts := found.ich_score_parts) is not None:
        given += [
            Figure(say("figure.score.volume"), answer(parts.volume_30_ml_or_more)),
            Figure(say("figure.score.infratentorial"), answer(parts.infratentorial)),
        ]
    return given


def list_columns(document: ResultDocument, say: Texts) -> list[Column]:
    """Return the columns of the table of lesions, each with why a cell of it would be empty."""
    version = say("reason.version")
    length = version if document.input.pixel_spacing_mm else say("reason.spacing")
    volume = length if document.input.slice_weights_mm or length != version else say("reason.thickness")
    density = version if document.input.calibrated else say("reason.density")
    given = [
        Column(say("column.slices"), "", lambda lesion: _format_slices(lesion, say), version),
        Column(say("column.side"), "", lambda lesion: say.translate_value(lesion.side), version),
        Column(say("column.place"), "", lambda lesion: _format_location(lesion, say), version),
        Column(say("column.volume"), "ml", lambda lesion: format_number(lesion.volume_ml, 1), volume),
        Column(say("column.abc2"), "ml", lambda lesion: format_number(lesion.abc2_ml, 1), volume),
        Column(say("column.diameter"), "mm", lambda lesion: format_number(lesion.max_diameter_mm, 0), length),
        Column(
            say("column.ventricles"),
            "ml",
            lambda lesion: format_number(lesion.intraventricular_ml, 1),
            say("reason.ventricles"),
        ),
        Column(say("column.sphericity"), "", lambda lesion: format_number(lesion.sphericity, 2), volume),
        Column(say("column.density"), "HU", lambda lesion: format_number(lesion.mean_hu, 0), density),
        Column(say("column.deviation"), "HU", lambda lesion: format_number(lesion.std_hu, 0), density),
        Column(say("column.probability"), "", lambda lesion: format_number(lesion.probability, 2), version),
        Column(say("column.pixels"), "", lambda lesion: f"{lesion.pixels:,}", version),
    ]
    if any(lesion.signs or lesion.type_probabilities for lesion in document.findings.lesions):
        given += [
            Column(say("column.type"), "", lambda lesion: _format_type(lesion, say), say("reason.type")),
            Column(say("column.signs"), "", lambda lesion: _format_signs(lesion, say), say("reason.signs")),
        ]
    return given


def explain_empty_cells(given: list[Column], found: Findings, say: Texts) -> list[str]:
    """Say for every reason why cells are empty of which columns they are."""
    titles: dict[str, list[str]] = {}
    for column in given:
        if any(column.text(lesion) is None for lesion in found.lesions):
            titles.setdefault(column.reason, []).append(column.title)
    return [say("reason", titles=", ".join(names), reason=reason) for reason, names in titles.items()]


def format_remark_slices(indices: list[int], say: Texts) -> str:
    """Name the slices of a remark, counted from 1, the first twelve of them; empty where there are none."""
    if not indices:
        return ""
    named = ", ".join(str(index + 1) for index in indices[:_MAX_NAMED_SLICES])
    return say("remarks.slices.more" if len(indices) > _MAX_NAMED_SLICES else "remarks.slices", slices=named)


def list_input_facts(document: ResultDocument, say: Texts) -> list[Fact]:
    """Return the input's form."""
    info, unknown = document.input, say("not_known")
    weights, spacing = info.slice_weights_mm, info.pixel_spacing_mm
    step = unknown
    if weights:
        low, high = f"{min(weights):.3g}", f"{max(weights):.3g}"
        even = max(weights) - min(weights) <= 0.01
        step = say("input.step.value", step=low if even else say("range", low=low, high=high))
    size = say("input.size.value", slices=say.pluralize("slices", info.slices), rows=info.rows, columns=info.columns)
    area = say("input.spacing.value", row=f"{spacing[0]:.3g}", column=f"{spacing[1]:.3g}") if spacing else unknown
    facts = [
        (say("input.kind"), say("input.kind.value", kind=info.kind, status=say.translate_value(document.status))),
        (say("input.size"), size),
        (say("input.spacing"), area),
        (say("input.step"), step),
        (say("input.tilt"), say("input.tilt.value", tilt=f"{info.tilt_deg:.1f}") if spacing else unknown),
        (say("input.calibrated"), say("yes" if info.calibrated else "input.calibrated.no")),
    ]
    if info.window:
        facts.append((say("input.window"), format_window(info.window, say)))
    if info.series_uid:
        facts.append((say("input.series"), info.series_uid))
    return facts


def list_model_facts(document: ResultDocument, say: Texts) -> list[Fact]:
    """Give who answered."""
    model = document.model
    return [
        (say("model.network"), f"{model.name} {model.version}"),
        (say("model.checksum"), say("model.checksum.value", digest=model.sha256[:12])),
        (say("model.threshold"), f"{model.threshold:.3g}"),
        (say("model.engine"), say("model.engine.value", engine=model.engine, precision=model.precision)),
        (say("model.software"), document.software),
    ]


def list_time_facts(document: ResultDocument, say: Texts) -> list[Fact]:
    """Return how long each step took."""
    steps = document.timing_s.model_dump()
    return [(say(f"time.{step}"), say("time.value", seconds=f"{taken:.2f}")) for step, taken in steps.items()]


def format_window(centre_and_width: tuple[float, float], say: Texts) -> str:
    """Name a window by its numbers."""
    centre, width = centre_and_width
    return say("stack.window.at", centre=f"{centre:g}", width=f"{width:g}")


def format_number(value: float | None, digits: int) -> str | None:
    """Round a number, but never down to nothing: 0.04 ml is no "0.0 ml"; None stays None."""
    if value is None:
        return None
    return f"{value:.2g}" if digits and 0 < abs(value) < 0.5 * 10.0**-digits else f"{value:,.{digits}f}"


def _format_slices(lesion: Lesion, say: Texts) -> str:
    first, last = (index + 1 for index in lesion.slices)
    return str(first) if first == last else say("range", low=first, high=last)


def _format_location(lesion: Lesion, say: Texts) -> str | None:
    """Return the place and on which side of the tentorium, where that adds something."""
    place = say.translate_value(lesion.place)
    if lesion.place in (None, "cerebellum", "brainstem") or lesion.tentorium in (None, "unsure"):
        return place
    return say("place", place=place, tentorium=say.translate_value(lesion.tentorium))


def _format_type(lesion: Lesion, say: Texts) -> str | None:
    if not lesion.type_probabilities:
        return None
    name, share = max(lesion.type_probabilities.items(), key=lambda item: item[1])
    return say("type", type=say.translate_value(name), share=f"{share:.0%}")


def _format_signs(lesion: Lesion, say: Texts) -> str | None:
    if lesion.signs is None:
        return None
    found = [str(say.translate_value(name)) for name, seen in lesion.signs.model_dump().items() if seen]
    return ", ".join(found) or say("value.none")
