"""A result, and an inspected input, in words and tables for a person at a terminal."""

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
from strokeseg.result import Findings, Lesion, Remark, ResultDocument, are_sides_known
from strokeseg.scan import Scan
from strokeseg.version import __version__

_MAX_LESIONS = 15
_SEVERITY = {"info": ("note", "cyan"), "repaired": ("repaired", "yellow"), "warning": ("warning", "bold yellow")}


def describe_result(document: ResultDocument, folder: Path) -> list[RenderableType]:
    """Return the verdict, the lesions, the remarks, and where the files are."""
    found = document.findings
    parts: list[RenderableType] = [Text(describe_verdict(found, document.input.slices), style="bold")]
    if told := _describe_findings(found):
        parts.append(Text(told))
    if found.lesions:
        parts.append(_build_lesion_table(found.lesions[:_MAX_LESIONS]))
    if (more := len(found.lesions) - _MAX_LESIONS) > 0:
        parts.append(Text(f"and {_format_count(more, 'smaller lesion')}, listed in result.json"))
    parts += [_format_remark(remark) for remark in document.remarks]
    report = document.files.get("report")
    where = folder / report if report else folder
    seconds = f"{document.timing_s.total:.1f} s"
    parts.append(Text(f"{'Report' if report else 'Results'}: {escape_unprintable(str(where))} ({seconds})"))
    parts.append(Text("For research only; no medical device.", style="dim"))
    return parts


def describe_verdict(found: Findings, slices: int) -> str:
    """Say in one sentence what was found."""
    if not found.hemorrhage:
        return f"No bleeding found on {_format_count(slices, 'slice')}."
    first = min(lesion.slices[0] for lesion in found.lesions)
    last = max(lesion.slices[1] for lesion in found.lesions)
    where = f"on slice {first + 1}" if first == last else f"between slices {first + 1} and {last + 1}"
    size = "volume unknown" if found.volume_ml is None else f"{found.volume_ml:.1f} ml in all"
    return (
        f"Bleeding found: {_format_count(len(found.lesions), 'lesion')}, {size}, {where} of {slices} (1 is the lowest)."
    )


def _describe_findings(found: Findings) -> str:
    """Return what is known of the head as a whole, in one line."""
    told = []
    if found.volume_interval_ml is not None and found.interval_level is not None:
        low, high = found.volume_interval_ml
        told.append(f"volume {low:.1f} to {high:.1f} ml ({found.interval_level:.0%} interval)")
    if found.confidence is not None:
        told.append(f"probability of blood {found.confidence:.2f}")
    if found.side is not None:
        told.append(f"side {found.side}")
    if found.midline_shift_mm is not None:
        side = f" to the {found.midline_shift_side}" if found.midline_shift_side else ""
        told.append(f"midline shift {found.midline_shift_mm:.1f} mm{side}")
    if found.intraventricular is not None:
        amount = "" if found.intraventricular_ml is None else f", {found.intraventricular_ml:.1f} ml"
        told.append(f"in the ventricles: {'yes' + amount if found.intraventricular else 'no'}")
    return "; ".join(told).capitalize() + "." if told else ""


def _build_lesion_table(lesions: list[Lesion]) -> Table:
    """Draw a line a lesion; a column that is known of no lesion is left out."""
    columns: dict[str, list[str]] = {
        "Lesion": [str(lesion.id) for lesion in lesions],
        "Volume ml": [_format_number(lesion.volume_ml, 2) for lesion in lesions],
        "Pixels": [str(lesion.pixels) for lesion in lesions],
        "Slices": ["–".join(str(i + 1) for i in sorted(set(lesion.slices))) for lesion in lesions],
        "Side": [lesion.side or "" for lesion in lesions],
        "Place": [lesion.place or "" for lesion in lesions],
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


def describe_inspection(source: Path, scans: Sequence[Scan], chosen: str | None) -> list[RenderableType]:
    """Return the gate's verdict, the geometry and the remarks of every series; ``chosen`` is the one to segment."""
    parts: list[RenderableType] = []
    name = escape_unprintable(source.name or str(source))
    for number, scan in enumerate(scans, start=1):
        which = f"{name}, series {number} of {len(scans)}" if len(scans) > 1 else name
        only = len(scans) == 1 or (chosen is not None and scan.series_uid == chosen)
        can = "can be segmented" if only else "can be segmented with --series"
        parts.append(Text(f"{which}: {_determine_status(scan)}, {can}", style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for label, value in _describe_geometry(scan).items():
            table.add_row(f"  {label}", value)
        parts.append(table)
        parts += [_format_coded_remark(remark) for remark in scan.remarks]
    if len(scans) > 1:
        said = (
            "none stands out" if chosen is None else f"{escape_unprintable(chosen)} stands out and would be segmented"
        )
        parts.append(Text(f"{len(scans)} series: {said}. --series UID, or how the UID begins, names another."))
    return parts


def _describe_geometry(scan: Scan) -> dict[str, str]:
    info, known = describe_input(scan), scan.spacing_known
    geometry = _measure_geometry(scan)
    step, extent, weights = geometry["step_mm"], geometry["extent_mm"], scan.weights_mm
    spacing = info.pixel_spacing_mm
    rows = {
        "kind": info.kind,
        "series": escape_unprintable(info.series_uid or ""),
        "slices x rows x columns": f"{info.slices} x {info.rows} x {info.columns}",
        "pixel spacing": "unknown; --spacing SLICE,ROW,COLUMN gives it"
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


def _measure_geometry(scan: Scan) -> dict[str, Any]:
    """Return what `input` of result.json does not hold, None where it is not known.

    ``orientation`` says to which side of the patient columns, rows and slices lead; ``step_mm`` is the least and the
    widest distance from slice to slice; ``extent_mm`` the lengths along slices, rows and columns.
    """
    planes, weights, gaps = scan.planes, scan.weights_mm, scan.planes.gaps_mm
    if not scan.spacing_known:
        return {"orientation": None, "step_mm": None, "extent_mm": None}
    row_mm, column_mm = planes.pixel_spacing_mm
    extent = None if weights is None else (float(weights.sum()), scan.shape[1] * row_mm, scan.shape[2] * column_mm)
    axes = {"columns": planes.row_cosine, "rows": planes.column_cosine, "slices": planes.normal}
    ways = ", ".join(f"{name} {_name_direction(axis)}" for name, axis in axes.items())
    return {
        "orientation": ways if are_sides_known(scan.remarks) else None,
        "step_mm": (float(gaps.min()), float(gaps.max())) if gaps.size else None,
        "extent_mm": extent,
    }


def _name_direction(axis: Any) -> str:
    """Name the side of the patient that an axis (LPS) leads to most nearly."""
    nearest = int(np.abs(axis).argmax())
    return (("right", "left"), ("front", "back"), ("feet", "head"))[nearest][int(axis[nearest] > 0)]


def _format_range(ends: tuple[float, float]) -> str:
    low, high = ends
    return f"{low:.2f}" if high - low < 0.01 else f"{low:.2f} to {high:.2f}"


def format_inspection_json(scans: Sequence[Scan], chosen: str | None, refusal: InputError | None) -> str:
    """Return the same as JSON, with `input` and `remarks` as in result.json; docs/gate.md describes it."""
    series: list[dict[str, Any]] = [
        {
            "status": _determine_status(scan),
            "input": describe_input(scan).model_dump(mode="json"),
            "geometry": _measure_geometry(scan),
            "remarks": [remark.model_dump(mode="json") for remark in scan.remarks],
        }
        for scan in scans
    ]
    return _format_inspection(series, chosen, refusal)


def format_refusal_json(error: InputError) -> str:
    """Return a refusal as JSON: the same document without series."""
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


def _format_count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
