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

from strokeseg.cli.terminal import printable
from strokeseg.pipeline import input_info
from strokeseg.result import Findings, Lesion, Remark, ResultDocument
from strokeseg.scan import Scan
from strokeseg.version import __version__

_MOST_LESIONS = 15
_SEVERITY = {"info": ("note", "cyan"), "repaired": ("repaired", "yellow"), "warning": ("warning", "bold yellow")}


def result(document: ResultDocument, folder: Path) -> list[RenderableType]:
    """Give the verdict, the lesions, the remarks, and where the files are."""
    found = document.findings
    parts: list[RenderableType] = [Text(verdict(found, document.input.slices), style="bold")]
    if found.lesions:
        parts.append(_lesions(found.lesions[:_MOST_LESIONS]))
    if (more := len(found.lesions) - _MOST_LESIONS) > 0:
        parts.append(Text(f"and {_count(more, 'smaller lesion')}, listed in result.json"))
    parts += [_remark(remark) for remark in document.remarks]
    report = document.files.get("report")
    where = folder / report if report else folder
    seconds = f"{document.timing_s.total:.1f} s"
    parts.append(Text(f"{'Report' if report else 'Results'}: {printable(str(where))} ({seconds})"))
    parts.append(Text("For research only; no medical device.", style="dim"))
    return parts


def verdict(found: Findings, slices: int) -> str:
    """Say in one sentence what was found."""
    if not found.hemorrhage:
        return f"No bleeding found on {_count(slices, 'slice')}."
    first = min(lesion.slices[0] for lesion in found.lesions)
    last = max(lesion.slices[1] for lesion in found.lesions)
    where = f"on slice {first + 1}" if first == last else f"between slices {first + 1} and {last + 1}"
    size = "volume unknown" if found.volume_ml is None else f"{found.volume_ml:.1f} ml in all"
    return f"Bleeding found: {_count(len(found.lesions), 'lesion')}, {size}, {where} of {slices} (1 is the lowest)."


def _lesions(lesions: list[Lesion]) -> Table:
    """Draw a line a lesion; a column that is known of no lesion is left out."""
    columns: dict[str, list[str]] = {
        "Lesion": [str(lesion.id) for lesion in lesions],
        "Volume ml": [_number(lesion.volume_ml, 2) for lesion in lesions],
        "Pixels": [str(lesion.pixels) for lesion in lesions],
        "Slices": ["–".join(str(i + 1) for i in sorted(set(lesion.slices))) for lesion in lesions],
        "Side": [lesion.side or "" for lesion in lesions],
        "Diameter mm": [_number(lesion.max_diameter_mm, 1) for lesion in lesions],
        "ABC/2 ml": [_number(lesion.abc2_ml, 2) for lesion in lesions],
        "Mean HU": [_number(lesion.mean_hu, 0) for lesion in lesions],
        "Probability": [_number(lesion.probability, 2) for lesion in lesions],
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


def inspection(source: Path, scans: Sequence[Scan]) -> list[RenderableType]:
    """Give the gate's verdict, the geometry and the remarks of every series."""
    parts: list[RenderableType] = []
    for scan in scans:
        parts.append(Text(f"{printable(source.name or str(source))}: {_status(scan)}, can be segmented", style="bold"))
        parts += [Text(f"  {name:<25}{value}") for name, value in _geometry(scan).items()]
        parts += [_remark(remark) for remark in scan.remarks]
    if len(scans) > 1:
        parts.append(Text(f"{len(scans)} series: name the one to segment with --series UID."))
    return parts


def _geometry(scan: Scan) -> dict[str, str]:
    info, planes = input_info(scan), scan.planes
    weights, gaps = scan.weights_mm, planes.gaps_mm
    known = scan.spacing_known
    step = "unknown"
    if known and gaps.size:
        even = np.ptp(gaps) < 0.01
        step = f"{np.median(gaps):.2f} mm" if even else f"{gaps.min():.2f} to {gaps.max():.2f} mm"
    extent = "unknown"
    if known and weights is not None:
        row_mm, column_mm = planes.pixel_spacing_mm
        lengths = (float(weights.sum()), info.rows * row_mm, info.columns * column_mm)
        extent = " x ".join(f"{length:.0f}" for length in lengths) + " mm (slices x rows x columns)"
    spacing = info.pixel_spacing_mm
    rows = {
        "kind": info.kind,
        "series": printable(info.series_uid or ""),
        "slices x rows x columns": f"{info.slices} x {info.rows} x {info.columns}",
        "pixel spacing": "unknown" if spacing is None else f"{spacing[0]:.3f} x {spacing[1]:.3f} mm (rows x columns)",
        "slice step": step,
        "extent": extent,
        "gantry tilt": f"{info.tilt_deg:.1f} degrees" if known else "unknown",
        "grey levels": "Hounsfield units" if info.calibrated else "not calibrated (pictures)",
        "window": "" if info.window is None else f"centre {info.window[0]:g}, width {info.window[1]:g}",
    }
    return {name: value for name, value in rows.items() if value}


def inspection_json(scans: Sequence[Scan]) -> str:
    """Give the same as JSON, with `input` and `remarks` as in result.json."""
    series: list[dict[str, Any]] = [
        {
            "status": _status(scan),
            "input": input_info(scan).model_dump(mode="json"),
            "remarks": [remark.model_dump(mode="json") for remark in scan.remarks],
        }
        for scan in scans
    ]
    document = {"schema": "strokeseg.inspection/1", "software": f"strokeseg {__version__}", "series": series}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _status(scan: Scan) -> str:
    return "repaired" if any(remark.severity == "repaired" for remark in scan.remarks) else "accepted"


def _remark(remark: Remark) -> Text:
    word, style = _SEVERITY[remark.severity]
    return Text.assemble((f"{word}: ", style), printable(remark.message))


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
