"""The files of a comparison: `change.json`, one page to look at, and matched planes side by side."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from strokeseg.errors import UsageError
from strokeseg.followup.document import Change, ChangeDocument, LesionChange, json_schema
from strokeseg.outputs.folder import OutputFolder
from strokeseg.outputs.images import slice_images
from strokeseg.result import are_sides_known
from strokeseg.scan import Scan

FORMATS = ("json", "report", "keys")
"""What can be written: "json" is written always."""

DOCUMENT_NAME, SCHEMA_NAME, PAGE_NAME = "change.json", "change.schema.json", "change.html"
EARLIER_COLOUR, LATER_COLOUR = (95, 200, 255), slice_images.OUTLINE_COLOUR
_OUTPUT_NAMES = re.compile(r"change\.json|change\.schema\.json|change\.html|change_\d+\.png")
_IMAGE_SIDE = 560

_KIND_WORDS = {
    "same": "about the same",
    "grown": "grown",
    "shrunk": "shrunk",
    "new": "new",
    "gone": "gone",
    "merged": "merged",
    "split": "split",
    "regrouped": "merged and split",
    "cut": "cut by the end of a scan",
    "not-covered": "not shown by the other scan",
}


@dataclass(frozen=True)
class PlanePairs:
    """Slices of the later scan, and the earlier head cut on the same planes.

    Parameters
    ----------
    slices : tuple of int
        Indices into the later scan.
    earlier, later : Scan
        Scans on the planes of these slices.
    earlier_mask, later_mask : ndarray of bool, shape (slices, rows, columns)
        On them.
    """

    slices: tuple[int, ...]
    earlier: Scan
    earlier_mask: NDArray[np.bool_]
    later: Scan
    later_mask: NDArray[np.bool_]


class _ComparisonFolder(OutputFolder):
    """Takes for earlier files of ours what an earlier `change.json` lists."""

    def _list_earlier_files(self) -> set[str]:
        try:
            document = json.loads((self.out / DOCUMENT_NAME).read_text("utf-8"))
            if not document["schema"].startswith("strokeseg.followup.document/"):
                return set()
            listed = {DOCUMENT_NAME, *document["files"].values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return set()
        return {name for name in listed if _OUTPUT_NAMES.fullmatch(str(name)) and (self.out / name).is_file()}


def check(out: str | Path, formats: Sequence[str]) -> None:
    """Find out, before any work is done, whether the comparison can be written; leaves nothing behind.

    Raises
    ------
    UsageError
        `usage`, for an unknown format.
    NotWritable, DiskFull
        `not-writable`, `disk-full`, as :func:`strokeseg.outputs.check`.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(
            f"format {', '.join(repr(name) for name in unknown)}: not known", f"Known formats: {', '.join(FORMATS)}."
        )
    names = [DOCUMENT_NAME, SCHEMA_NAME]
    names += [PAGE_NAME] if "report" in formats else []
    names += ["change_1.png"] if "keys" in formats else []
    with _ComparisonFolder(Path(out)) as delivery:
        delivery.refuse_foreign_files(names)
        (delivery.staging / "probe").write_bytes(b"\0" * 4096)


def save(out: str | Path, document: ChangeDocument, pairs: PlanePairs, formats: Sequence[str]) -> ChangeDocument:
    """Write a comparison's files into a folder, all of them or none, `change.json` last.

    Files that an earlier `change.json` lists go away with it; any other file stays.

    Parameters
    ----------
    formats : sequence of str
        Of :data:`FORMATS`.

    Returns
    -------
    ChangeDocument
        The document as written, with its files.

    Raises
    ------
    UsageError, NotWritable, DiskFull
        As :func:`check`.
    """
    check(out, formats)
    with _ComparisonFolder(Path(out)) as delivery:
        folder = delivery.staging
        files = {"change": DOCUMENT_NAME, "schema": SCHEMA_NAME}
        if "keys" in formats:
            for number in range(len(pairs.slices)):
                files[f"change_{number + 1}"] = f"change_{number + 1}.png"
                draw_pair(pairs, number).save(folder / files[f"change_{number + 1}"], compress_level=6)
        if "report" in formats:
            files["report"] = PAGE_NAME
        document = document.model_copy(update={"files": files})
        if "report" in formats:
            (folder / PAGE_NAME).write_text(render_html(document, pairs), "utf-8")
        (folder / SCHEMA_NAME).write_text(json.dumps(json_schema(), indent=2) + "\n", "utf-8")
        (folder / DOCUMENT_NAME).write_text(document.model_dump_json(indent=2) + "\n", "utf-8")
        delivery.commit(list(files.values()), last=DOCUMENT_NAME)
    return document


def draw_pair(pairs: PlanePairs, number: int) -> Image.Image:
    """Draw one plane of both scans side by side: the earlier bleeding's outline in blue, the later one's in yellow.

    Returns
    -------
    Image
        RGB picture; on the right both outlines, so that a change is seen.
    """
    left, right = _render_slice(pairs.earlier, number), _render_slice(pairs.later, number)
    old = slice_images.trace_outlines(pairs.earlier, pairs.earlier_mask[number], left.size)
    new = slice_images.trace_outlines(pairs.later, pairs.later_mask[number], right.size)
    gap = 4
    whole = Image.new("RGB", (2 * left.width + gap, left.height), (255, 255, 255))
    whole.paste(_draw_layers(left, [(old, EARLIER_COLOUR)]), (0, 0))
    whole.paste(_draw_layers(right, [(old, EARLIER_COLOUR), (new, LATER_COLOUR)]), (left.width + gap, 0))
    draw, (width, height) = ImageDraw.Draw(whole), left.size
    font, edge = ImageFont.load_default(height / 28), {"stroke_width": 2, "stroke_fill": (0, 0, 0)}
    margin = height / 40
    titles = ((0, "earlier", EARLIER_COLOUR), (width + gap, f"later, slice {pairs.slices[number] + 1}", LATER_COLOUR))
    for start, title, colour in titles:
        draw.text((start + margin, margin), title, colour, font, "la", **edge)  # type: ignore[arg-type]
        for letter, x in (("R", margin), ("L", width - margin)):
            anchor = "lm" if letter == "R" else "rm"
            said = letter + ("" if are_sides_known(pairs.later.remarks) else "?")
            draw.text((start + x, height * 0.3), said, slice_images.LETTER_COLOUR, font, anchor, **edge)  # type: ignore[arg-type]
    return whole


def render_html(document: ChangeDocument, pairs: PlanePairs) -> str:
    """Return the page's text; all that comes from the document is escaped, and nothing on it is a script."""
    environment = Environment(
        loader=PackageLoader("strokeseg.outputs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assert environment.loader is not None
    style = environment.loader.get_source(environment, "report.css")[0]
    return environment.get_template("change.html.j2").render(
        document=document,
        change=document.change,
        summary=summarize(document.change),
        alarming=_is_alarming(document.change),
        figures=_figures(document.change),
        rows=[format_row(lesion) for lesion in document.change.lesions],
        pairs=[_describe_pair(pairs, number) for number in range(len(pairs.slices))],
        doubt="" if are_sides_known(document.later.remarks) else "?",
        sides=(("Earlier scan", document.earlier), ("Later scan", document.later)),
        style=Markup(style),
    )


def summarize(change: Change) -> str:
    """Say what changed in one sentence; growth only as the published definition has it."""
    if not change.lesions:
        return "No bleeding was found on either scan."
    if change.change_ml is None:
        return "The change could not be measured."
    before, after = change.earlier_ml or 0.0, change.later_ml or 0.0
    if before == 0:
        return f"New bleeding: {after:.1f} ml, where there was none before."
    if after == 0:
        return f"The bleeding of {before:.1f} ml is gone."
    moved = f"from {before:.1f} to {after:.1f} ml"
    if change.growth:
        doubt = " (not beyond the error of the two volumes)" if change.growth_sure is False else ""
        return f"The bleeding grew {moved}{doubt}."
    if change.growth is None:
        return f"What both scans show of the bleeding went {moved}; whether it grew cannot be said."
    return f"The bleeding went {moved}: no growth by the definition of more than 6 ml or 33 %."


def _is_alarming(change: Change) -> bool:
    return bool(change.growth) or any(lesion.kind == "new" for lesion in change.lesions)


def _figures(change: Change) -> list[tuple[str, str, str]]:
    """Return the few figures at the top: (label, value, unit)."""
    if change.change_ml is None or not change.lesions:
        return []
    figures = [
        ("Earlier", f"{change.earlier_ml:.1f}", "ml"),
        ("Later", f"{change.later_ml:.1f}", "ml"),
        ("Change", f"{change.change_ml:+.1f}", "ml"),
    ]
    if change.change_percent is not None:
        figures.append(("Change", f"{change.change_percent:+.0f}", "%"))
    if change.change_interval_ml is not None:
        low, high = change.change_interval_ml
        level = f" ({change.interval_level:.0%} or more)" if change.interval_level else ""
        figures.append((f"Change, interval{level}", f"{low:+.1f} to {high:+.1f}", "ml"))
    said = {True: "yes", False: "no", None: "cannot be said"}
    figures.append(("Growth over 6 ml or 33 %", said[change.growth], ""))
    if change.growth_sure is not None:
        figures.append(("Sure within the intervals", said[change.growth_sure], ""))
    return figures


TABLE_COLUMNS = ("Became", "Earlier", "Later", "Earlier ml", "Later ml", "Change ml", "Change %", "Apart mm")


def format_row(lesion: LesionChange) -> list[str]:
    """Return a row of the table, of :data:`COLUMNS`; the second and third are the numbers of regions."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else form.format(value)

    return [
        _KIND_WORDS[lesion.kind] + (" (in part not shown)" if lesion.cut and lesion.kind in ("new", "gone") else ""),
        ", ".join(map(str, lesion.earlier)) or "–",
        ", ".join(map(str, lesion.later)) or "–",
        number(lesion.earlier_ml if lesion.earlier else None, "{:.2f}"),
        number(lesion.later_ml if lesion.later else None, "{:.2f}"),
        number(lesion.change_ml, "{:+.2f}"),
        number(lesion.change_percent, "{:+.0f}"),
        number(lesion.apart_mm, "{:.1f}"),
    ]


def _describe_pair(pairs: PlanePairs, number: int) -> dict[str, object]:
    """Return what the template needs of one plane."""
    sides = []
    for scan in (pairs.earlier, pairs.later):
        packed = io.BytesIO()
        image = _render_slice(scan, number)
        image.save(packed, "JPEG", quality=85, optimize=True)
        sides.append("data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii"))
    old = slice_images.trace_outlines(pairs.earlier, pairs.earlier_mask[number], image.size)
    new = slice_images.trace_outlines(pairs.later, pairs.later_mask[number], image.size)
    return {
        "number": pairs.slices[number] + 1,
        "earlier": sides[0],
        "later": sides[1],
        "width": image.width,
        "height": image.height,
        "old": _format_svg_path(old),
        "new": _format_svg_path(new),
    }


def _format_svg_path(lines: Sequence[slice_images.Polyline]) -> str:
    return " ".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line[:-1]) + "Z" for line in lines)


def _render_slice(scan: Scan, index: int) -> Image.Image:
    """Return one slice in the brain window as an upright picture of square pixels, its longer side 560."""
    image = Image.fromarray(slice_images.apply_brain_window(scan.planes.turn_upright(scan.hu[index])))
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    height, width = scan.shape[1] * row_mm, scan.shape[2] * column_mm
    scale = _IMAGE_SIDE / max(height, width)
    return image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)


def _draw_layers(
    grey: Image.Image, layers: Sequence[tuple[Sequence[slice_images.Polyline], tuple[int, int, int]]]
) -> Image.Image:
    for lines, colour in layers:
        grey = slice_images.draw_outlines(grey, lines, colour, half_pixels=3)
    return grey
