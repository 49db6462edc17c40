"""The page of a comparison, `change.html`, and the wording that the command line shares with it."""

from __future__ import annotations

import base64
import io

from markupsafe import Markup

from strokeseg.followup.document import Change, ChangeDocument, LesionChange
from strokeseg.followup.plane_pairs import PlanePairs, render_slice
from strokeseg.outputs.images.slice_images import format_svg_path, trace_outlines
from strokeseg.outputs.report.html_report import make_environment, read_template
from strokeseg.result import are_sides_known

PAGE_NAME = "change.html"
TABLE_COLUMNS = ("Change", "Earlier", "Later", "Earlier ml", "Later ml", "Change ml", "Change %", "Distance mm")

_KIND_WORDS = {
    "same": "about the same",
    "grown": "grown",
    "shrunk": "shrunk",
    "new": "new",
    "gone": "gone",
    "merged": "merged",
    "split": "split",
    "regrouped": "merged and split",
    "cut": "cut off by the end of a scan",
    "not-covered": "outside the other scan",
}


def render_html(document: ChangeDocument, pairs: PlanePairs) -> str:
    """Render the page; all text from the document is escaped, and the page has no scripts.

    Parameters
    ----------
    document : ChangeDocument
        The comparison.
    pairs : PlanePairs
        The planes to show.

    Returns
    -------
    str
        HTML.
    """
    style = read_template(make_environment("strokeseg.outputs.report"), "report.css")
    return (
        make_environment("strokeseg.followup")
        .get_template("change.html.j2")
        .render(
            document=document,
            change=document.change,
            summary=summarize(document.change),
            is_alarming=_is_alarming(document.change),
            figures=_list_figures(document.change),
            rows=[format_row(lesion) for lesion in document.change.lesions],
            pairs=[_describe_pair(pairs, number) for number in range(len(pairs.slices))],
            uncertain="" if are_sides_known(document.later.remarks) else "?",
            scans=(("Earlier scan", document.earlier), ("Later scan", document.later)),
            style=Markup(style),
        )
    )


def summarize(change: Change) -> str:
    """Summarize the change in one sentence; growth follows the published definition."""
    if not change.lesions:
        return "No hemorrhage was detected on either scan."
    if change.change_ml is None:
        return "The change could not be measured."
    before, after = change.earlier_ml or 0.0, change.later_ml or 0.0
    if before == 0:
        return f"New hemorrhage: {after:.1f} ml, none on the earlier scan."
    if after == 0:
        return f"The hemorrhage of {before:.1f} ml is gone."
    volumes = f"from {before:.1f} to {after:.1f} ml"
    if change.growth:
        uncertain = " (within the error of the two volumes)" if change.growth_sure is False else ""
        return f"The hemorrhage grew {volumes}{uncertain}."
    if change.growth is None:
        return f"The part of the hemorrhage on both scans changed {volumes}; whether the hemorrhage grew is unknown."
    return f"The hemorrhage changed {volumes}: no growth (more than 6 ml or 33 %)."


def format_row(lesion: LesionChange) -> list[str]:
    """Format the cells of a lesion for :data:`TABLE_COLUMNS`; the second and third are lesion ids."""

    def format_number(value: float | None, form: str) -> str:
        return "–" if value is None else form.format(value)

    is_partial = lesion.cut and lesion.kind in ("new", "gone")
    return [
        _KIND_WORDS[lesion.kind] + (" (partly outside the other scan)" if is_partial else ""),
        ", ".join(map(str, lesion.earlier)) or "–",
        ", ".join(map(str, lesion.later)) or "–",
        format_number(lesion.earlier_ml if lesion.earlier else None, "{:.2f}"),
        format_number(lesion.later_ml if lesion.later else None, "{:.2f}"),
        format_number(lesion.change_ml, "{:+.2f}"),
        format_number(lesion.change_percent, "{:+.0f}"),
        format_number(lesion.apart_mm, "{:.1f}"),
    ]


def _is_alarming(change: Change) -> bool:
    return bool(change.growth) or any(lesion.kind == "new" for lesion in change.lesions)


def _list_figures(change: Change) -> list[tuple[str, str, str]]:
    """List the main figures: (label, value, unit)."""
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
        figures.append((f"Change interval{level}", f"{low:+.1f} to {high:+.1f}", "ml"))
    words = {True: "yes", False: "no", None: "unknown"}
    figures.append(("Growth over 6 ml or 33 %", words[change.growth], ""))
    if change.growth_sure is not None:
        figures.append(("Certain within the intervals", words[change.growth_sure], ""))
    return figures


def _describe_pair(pairs: PlanePairs, number: int) -> dict[str, object]:
    """Return the template's data of one plane."""
    uris = []
    for scan in (pairs.earlier, pairs.later):
        buffer = io.BytesIO()
        image = render_slice(scan, number)
        image.save(buffer, "JPEG", quality=85, optimize=True)
        uris.append("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"))
    return {
        "number": pairs.slices[number] + 1,
        "earlier": uris[0],
        "later": uris[1],
        "width": image.width,
        "height": image.height,
        "earlier_path": format_svg_path(trace_outlines(pairs.earlier, pairs.earlier_mask[number], image.size)),
        "later_path": format_svg_path(trace_outlines(pairs.later, pairs.later_mask[number], image.size)),
    }
