"""Text form of a result and of an inspected input for the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from strokeseg.cli.terminal import escape_unprintable
from strokeseg.errors import InputError
from strokeseg.pipeline import describe_input
from strokeseg.reading.head_check import measure_head_evidence
from strokeseg.result import Findings, Lesion, Remark, ResultDocument, are_sides_known
from strokeseg.scan import Scan
from strokeseg.version import __version__

_MAX_LESIONS = 15
_SEVERITY = {"info": ("note", "cyan"), "repaired": ("repaired", "yellow"), "warning": ("warning", "bold yellow")}


def describe_result(document: ResultDocument, folder: Path) -> list[RenderableType]:
    """Return the verdict, the lesions, the remarks and the path of the files."""
    findings = document.findings
    lines: list[RenderableType] = [Text(describe_verdict(findings, document.input.slices), style="bold")]
    if sentence := _describe_findings(findings):
        lines.append(Text(sentence))
    if findings.lesions:
        lines.append(_build_lesion_table(findings.lesions[:_MAX_LESIONS]))
    if (more := len(findings.lesions) - _MAX_LESIONS) > 0:
        lines.append(Text(f"and {_format_count(more, 'smaller lesion')}, listed in result.json"))
    lines += [_format_remark(remark) for remark in document.remarks]
    report = document.files.get("report")
    path = folder / report if report else folder
    seconds = f"{document.timing_s.total:.1f} s"
    lines.append(Text(f"{'Report' if report else 'Results'}: {escape_unprintable(str(path))} ({seconds})"))
    lines.append(Text("For research only; not a medical device.", style="dim"))
    return lines


def describe_verdict(findings: Findings, slices: int) -> str:
    """Describe the findings in one sentence."""
    if not findings.hemorrhage:
        return f"No hemorrhage detected on {_format_count(slices, 'slice')}."
    first = min(lesion.slices[0] for lesion in findings.lesions)
    last = max(lesion.slices[1] for lesion in findings.lesions)
    place = f"on slice {first + 1}" if first == last else f"between slices {first + 1} and {last + 1}"
    size = "volume unknown" if findings.volume_ml is None else f"{findings.volume_ml:.1f} ml in total"
    count = _format_count(len(findings.lesions), "lesion")
    return f"Hemorrhage detected: {count}, {size}, {place} of {slices} (1 is the lowest)."


def _describe_findings(findings: Findings) -> str:
    """Describe the findings of the whole head in one line."""
    clauses = []
    if findings.volume_interval_ml is not None and findings.interval_level is not None:
        low, high = findings.volume_interval_ml
        clauses.append(f"volume {low:.1f} to {high:.1f} ml ({findings.interval_level:.0%} interval)")
    if findings.confidence is not None:
        clauses.append(f"probability of hemorrhage {findings.confidence:.2f}")
    if findings.side is not None:
        clauses.append(f"side {_word(findings.side)}")
    if findings.midline_shift_mm is not None:
        side = f" to the {findings.midline_shift_side}" if findings.midline_shift_side else ""
        clauses.append(f"midline shift {findings.midline_shift_mm:.1f} mm{side}")
    if findings.intraventricular is not None:
        amount = "" if findings.intraventricular_ml is None else f", {findings.intraventricular_ml:.1f} ml"
        clauses.append(f"in the ventricles: {'yes' + amount if findings.intraventricular else 'no'}")
    return "; ".join(clauses).capitalize() + "." if clauses else ""


def _build_lesion_table(lesions: list[Lesion]) -> Table:
    """Build a table with one row per lesion; columns without any value are left out."""
    columns: dict[str, list[str]] = {
        "Lesion": [str(lesion.id) for lesion in lesions],
        "Volume ml": [_format_number(lesion.volume_ml, 2) for lesion in lesions],
        "Pixels": [str(lesion.pixels) for lesion in lesions],
        "Slices": ["–".join(str(i + 1) for i in sorted(set(lesion.slices))) for lesion in lesions],
        "Side": [_word(lesion.side) for lesion in lesions],
        "Location": [_word(lesion.place) for lesion in lesions],
        "Diameter mm": [_format_number(lesion.max_diameter_mm, 1) for lesion in lesions],
        "ABC/2 ml": [_format_number(lesion.abc2_ml, 2) for lesion in lesions],
        "Mean HU": [_format_number(lesion.mean_hu, 0) for lesion in lesions],
        "Probability": [_format_number(lesion.probability, 2) for lesion in lesions],
    }
    if any(columns["Volume ml"]):
        del columns["Pixels"]
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    table = Table()
    for heading in columns:
        table.add_column(heading, justify="right")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _word(value: str | None) -> str:
    return "uncertain" if value == "unsure" else value or ""


def describe_inspection(source: Path, scans: Sequence[Scan], chosen: str | None) -> list[RenderableType]:
    """Return status, geometry and remarks of every series.

    Parameters
    ----------
    source : Path
        The input.
    scans : sequence of Scan
        Its head CT series.
    chosen : str or None
        Name of the series that would be segmented; None if no series is preferred.

    Returns
    -------
    list of renderable
        Texts and tables for the terminal.
    """
    lines: list[RenderableType] = []
    name = escape_unprintable(source.name or str(source))
    for number, scan in enumerate(scans, start=1):
        label = f"{name}, series {number} of {len(scans)}" if len(scans) > 1 else name
        is_chosen = len(scans) == 1 or (chosen is not None and scan.series_name == chosen)
        use = "can be segmented" if is_chosen else "can be segmented with --series"
        lines.append(Text(f"{label}: {_determine_status(scan)}, {use}", style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for heading, value in (_describe_geometry(scan) | _describe_head(scan)).items():
            table.add_row(f"  {heading}", value)
        lines.append(table)
        lines += [_format_coded_remark(remark) for remark in scan.remarks]
    if len(scans) > 1:
        choice = "none is preferred" if chosen is None else f"{escape_unprintable(chosen)} would be segmented"
        lines.append(Text(f"{len(scans)} series: {choice}. --series NAME, or the beginning of a UID, chooses another."))
    return lines


def _describe_geometry(scan: Scan) -> dict[str, str]:
    info, known = describe_input(scan), scan.spacing_known
    geometry = _measure_geometry(scan)
    step, extent, weights = geometry["step_mm"], geometry["extent_mm"], scan.weights_mm
    spacing = info.pixel_spacing_mm
    rows = {
        "kind": info.kind,
        "series": escape_unprintable(info.series_uid or ""),
        "slices x rows x columns": f"{info.slices} x {info.rows} x {info.columns}",
        "pixel spacing": "unknown; state it with --spacing SLICE,ROW,COLUMN"
        if spacing is None
        else f"{spacing[0]:.3f} x {spacing[1]:.3f} mm (rows x columns)",
        "slice step": "unknown" if step is None else f"{_format_range(step)} mm",
        "slice weights": "unknown" if weights is None else f"{_format_range((weights.min(), weights.max()))} mm",
        "extent": "unknown"
        if extent is None
        else " x ".join(f"{length:.0f}" for length in extent) + " mm (slices x rows x columns)",
        "orientation": geometry["orientation"] or "unknown",
        "gantry tilt": f"{info.tilt_deg:.1f} degrees (from positions)" if known else "unknown",
        "grey levels": "Hounsfield units" if info.calibrated else "not calibrated (pictures)",
        "window": "" if info.window is None else f"centre {info.window[0]:g}, width {info.window[1]:g}",
    }
    return {name: value for name, value in rows.items() if value}


def _describe_head(scan: Scan) -> dict[str, str]:
    """Describe the evidence for a head."""
    head = measure_head_evidence(scan)
    values = {
        "head on slices": f"{head.head_like_slices} of {head.sampled_slices} sampled, {head.longest_run} in a row"
        f" (probability {head.probability:.2f})",
        "skull": f"{_format_number(head.closed_skull, 2)} closed"
        + ("" if head.skull_radius_mm is None else f", inner radius up to {head.skull_radius_mm:.0f} mm"),
        "brain": f"{_format_number(head.brain_hu, 0)} HU, spread {_format_number(head.brain_spread_hu, 0)} HU, "
        f"texture {_format_number(head.texture_hu, 1)} HU, asymmetry {_format_number(head.asymmetry, 2)}",
    }
    return values if head.head_like_slices else {"head on slices": values["head on slices"]}


def _measure_geometry(scan: Scan) -> dict[str, Any]:
    """Return the geometry that `input` of result.json does not hold; None where unknown.

    ``orientation`` states the side of the patient that columns, rows and slices lead to; ``step_mm`` is the smallest
    and the largest distance between neighbouring slices; ``extent_mm`` the lengths along slices, rows and columns.
    """
    planes, weights, gaps = scan.planes, scan.weights_mm, scan.planes.gaps_mm
    if not scan.spacing_known:
        return {"orientation": None, "step_mm": None, "extent_mm": None}
    row_mm, column_mm = planes.pixel_spacing_mm
    extent = None if weights is None else (float(weights.sum()), scan.shape[1] * row_mm, scan.shape[2] * column_mm)
    axes = {"columns": planes.row_cosine, "rows": planes.column_cosine, "slices": planes.normal}
    directions = ", ".join(f"{name} {_name_direction(axis)}" for name, axis in axes.items())
    return {
        "orientation": directions if are_sides_known(scan.remarks) else None,
        "step_mm": (float(gaps.min()), float(gaps.max())) if gaps.size else None,
        "extent_mm": extent,
    }


def _name_direction(axis: Any) -> str:
    """Return the side of the patient that an axis (LPS) points to most closely."""
    nearest = int(np.abs(axis).argmax())
    return (("right", "left"), ("front", "back"), ("feet", "head"))[nearest][int(axis[nearest] > 0)]


def _format_range(ends: tuple[float, float]) -> str:
    low, high = ends
    return f"{low:.2f}" if high - low < 0.01 else f"{low:.2f} to {high:.2f}"


def format_inspection_json(scans: Sequence[Scan], chosen: str | None, refusal: InputError | None) -> str:
    """Format an inspection as JSON, with `input` and `remarks` as in result.json (see docs/gate.md)."""
    series: list[dict[str, Any]] = [
        {
            "status": _determine_status(scan),
            "name": scan.series_name,
            "input": describe_input(scan).model_dump(mode="json"),
            "geometry": _measure_geometry(scan),
            "head": measure_head_evidence(scan).to_dict(),
            "remarks": [remark.model_dump(mode="json") for remark in scan.remarks],
        }
        for scan in scans
    ]
    return _format_inspection(series, chosen, refusal)


def format_refusal_json(error: InputError) -> str:
    """Format a refusal as JSON: the inspection document without series."""
    return _format_inspection([], None, error)


def _format_inspection(series: list[dict[str, Any]], chosen: str | None, error: InputError | None) -> str:
    refusal = None if error is None else {"code": error.code, "message": error.message, "remedy": error.remedy}
    document = {
        "schema": "strokeseg.inspection/1",
        "software": f"strokeseg {__version__}",
        "series": series,
        "chosen": chosen,
        "refusal": refusal,
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _determine_status(scan: Scan) -> str:
    return "repaired" if any(remark.severity == "repaired" for remark in scan.remarks) else "accepted"


def _format_remark(remark: Remark) -> Text:
    word, style = _SEVERITY[remark.severity]
    return Text.assemble((f"{word}: ", style), escape_unprintable(remark.message))


def _format_coded_remark(remark: Remark) -> Text:
    word, style = _SEVERITY[remark.severity]
    return Text.assemble((f"{word}[{remark.code}]: ", style), escape_unprintable(remark.message))


def _format_number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _format_count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
