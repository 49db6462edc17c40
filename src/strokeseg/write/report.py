"""The report: one HTML file that opens offline and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from strokeseg.result import Findings, Lesion, ResultDocument, Scene, sides_known
from strokeseg.write import mesh
from strokeseg.write.pictures import Points, Shown, SlicePicture

NAME = "report.html"

_DASH = "–"


@dataclass(frozen=True)
class Column:
    """One column of the table of lesions: its title, unit, how a cell reads, and why a cell is empty."""

    title: str
    unit: str
    text: Callable[[Lesion], str | None]
    reason: str


def save(folder: Path, document: ResultDocument, shown: Shown, scene: Scene | None) -> None:
    """Write `report.html`.

    Parameters
    ----------
    document : the result as `result.json` holds it; every figure and sentence of the report comes from it
    shown : the slices as pictures
    scene : the meshes of the 3D view; without any the report says that there is none
    """
    (folder / NAME).write_text(html(document, shown, scene), "utf-8")


def html(document: ResultDocument, shown: Shown, scene: Scene | None) -> str:
    """Give the report's text; all that comes from the document is escaped."""
    environment = Environment(
        loader=PackageLoader("strokeseg.write"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    packed = mesh.packed(scene) if scene is not None else None
    scripts = [_source(environment, "report.js")]
    if packed is not None:
        scripts.append(_source(environment, "scene.js"))
    columns = _columns(document)
    return environment.get_template("report.html.j2").render(
        document=document,
        findings=document.findings,
        summary=summary(document),
        figures=_figures(document.findings, document, shown),
        columns=columns,
        reasons=_reasons(columns, document.findings),
        slices=[_slice(picture, document.findings) for picture in shown.slices],
        shown=shown,
        scene=packed,
        to_scale=scene is not None and scene.to_scale,
        doubt="" if sides_known(document.remarks) else "?",
        style=Markup(_source(environment, "report.css")),
        scripts=[Markup(script) for script in scripts],
        # Only these scripts run, and nothing is ever fetched, whatever the document holds.
        script_hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        dash=_DASH,
    )


def summary(document: ResultDocument) -> str:
    """Say what was found in one sentence; a volume only where it is known. Slices are counted from 1."""
    found, count = document.findings, document.input.slices
    slices = _plural(count, "slice")
    if not found.hemorrhage:
        return f"No bleeding was found on {slices}."
    first = min((lesion.slices[0] for lesion in found.lesions), default=0) + 1
    last = max((lesion.slices[1] for lesion in found.lesions), default=count - 1) + 1
    where = f"slice {first}" if first == last else f"slices {first} to {last}"
    regions = _plural(len(found.lesions), "region") if found.lesions else "bleeding"
    volume = "" if found.volume_ml is None else f", {_number(found.volume_ml, 1)} ml in all"
    return f"Bleeding was found: {regions} on {where} of {count}{volume}."


def _figures(found: Findings, document: ResultDocument, shown: Shown) -> list[tuple[str, str, str]]:
    """Give the few figures at the top: (label, value, unit); what was not measured is left to the table."""
    if not found.hemorrhage:
        return []
    figures = [
        ("Volume", _number(found.volume_ml, 1), "ml"),
        ("Regions", str(len(found.lesions)), ""),
        ("Slices with bleeding", f"{shown.positive} of {document.input.slices}", ""),
        ("Highest mean probability", _number(found.confidence, 2), ""),
    ]
    if found.volume_interval_ml is not None:
        low, high = (_number(value, 1) for value in found.volume_interval_ml)
        level = f" ({found.interval_level:.0%})" if found.interval_level else ""
        figures.insert(1, (f"Volume, interval{level}", f"{low} – {high}", "ml"))
    if found.midline_shift_mm is not None:
        side = f"mm to the {found.midline_shift_side}" if found.midline_shift_side else "mm"
        figures.append(("Midline shift", _number(found.midline_shift_mm, 1), side))
    if found.intraventricular_ml is not None:
        figures.append(("In the ventricles", _number(found.intraventricular_ml, 1), "ml"))
    return [
        (label, value if value is not None else "not measured", unit if value else "") for label, value, unit in figures
    ]


def _columns(document: ResultDocument) -> list[Column]:
    """Give the columns of the table of lesions, each with why a cell of it would be empty."""
    unmeasured = "not measured by this version"
    length = unmeasured if document.input.pixel_spacing_mm else "the pixel spacing is not known"
    volume = length if document.input.slice_weights_mm or length != unmeasured else "the slice thickness is not known"
    density = unmeasured if document.input.calibrated else "the grey levels of pictures are no Hounsfield units"
    columns = [
        Column("Slices", "", _slices, unmeasured),
        Column("Side", "", lambda lesion: lesion.side, unmeasured),
        Column("Volume", "ml", lambda lesion: _number(lesion.volume_ml, 1), volume),
        Column("ABC/2", "ml", lambda lesion: _number(lesion.abc2_ml, 1), volume),
        Column("Longest diameter", "mm", lambda lesion: _number(lesion.max_diameter_mm, 0), length),
        Column("Mean density", "HU", lambda lesion: _number(lesion.mean_hu, 0), density),
        Column("Mean probability", "", lambda lesion: _number(lesion.probability, 2), unmeasured),
        Column("Pixels", "", lambda lesion: f"{lesion.pixels:,}", unmeasured),
    ]
    if all(lesion.side is None for lesion in document.findings.lesions):
        columns.pop(1)
    return columns


def _reasons(columns: list[Column], found: Findings) -> list[tuple[str, str]]:
    """Give (titles, reason) for every reason why cells are empty."""
    reasons: dict[str, list[str]] = {}
    for column in columns:
        if any(column.text(lesion) is None for lesion in found.lesions):
            reasons.setdefault(column.reason, []).append(column.title)
    return [(", ".join(titles), reason) for reason, titles in reasons.items()]


def _slice(picture: SlicePicture, found: Findings) -> dict[str, object]:
    """Give what the template needs of one slice."""
    inside = [lesion.id for lesion in found.lesions if lesion.slices[0] <= picture.index <= lesion.slices[1]]
    return {
        "number": picture.index + 1,
        "uri": "data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode("ascii"),
        "width": picture.size[0],
        "height": picture.size[1],
        "path": " ".join(_path(points) for points in picture.outlines),
        "regions": inside if picture.outlines else [],
    }


def _path(points: Points) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1]) + "Z"


def _slices(lesion: Lesion) -> str:
    first, last = (index + 1 for index in lesion.slices)
    return str(first) if first == last else f"{first} – {last}"


def _number(value: float | None, digits: int) -> str | None:
    if value is None:
        return None
    # 0.04 ml is no "0.0 ml".
    return f"{value:.2g}" if digits and 0 < abs(value) < 0.5 * 10.0**-digits else f"{value:,.{digits}f}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
