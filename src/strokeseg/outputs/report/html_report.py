"""The report: one HTML file that opens offline and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from strokeseg.outputs.images import slice_images, slice_stack
from strokeseg.outputs.images.result_images import ResultImages
from strokeseg.outputs.images.slice_images import Polyline, SliceImage
from strokeseg.outputs.meshes import gltf
from strokeseg.outputs.report import texts, wording
from strokeseg.outputs.report.texts import Texts
from strokeseg.result import ResultDocument, are_sides_known

NAME = "report.html"

_DASH = "–"
_MAX_NAMED_LESIONS = 4


def save(folder: Path, document: ResultDocument, gallery: ResultImages) -> None:
    """Write `report.html`.

    Parameters
    ----------
    document : ResultDocument
        The result as `result.json` holds it; every figure and sentence of the report comes from it.
    gallery : ResultImages
        The result's pictures; without any surface the report says that there is none.
    """
    (folder / NAME).write_text(render_html(document, gallery), "utf-8")


def render_html(document: ResultDocument, gallery: ResultImages, language: str = "en") -> str:
    """Return the report's text; all that comes from the document is escaped."""
    environment = Environment(
        loader=PackageLoader("strokeseg.outputs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    say, scene = texts.load_texts(language), gallery.scene
    packed = gltf.pack_for_viewer(scene) if scene is not None else None
    names = ["report.js"] if packed is None else ["report.js", "scene.js"]
    scripts = [_read_template(environment, name) for name in names]
    columns = wording.list_columns(document, say)
    shown = slice_images.draw_report_slices(gallery.scan, gallery.mask)
    return environment.get_template("report.html.j2").render(
        say=say,
        wording=wording,
        document=document,
        findings=document.findings,
        columns=columns,
        reasons=wording.explain_empty_cells(columns, document.findings, say),
        slices=[_describe_slice(picture, document) for picture in shown.slices],
        shown=shown,
        stack=_describe_stack(gallery, document, say),
        windows=slice_stack.choose_windows(gallery.scan),
        midline=_inline_image(gallery.midline),
        scene=packed,
        to_scale=scene is not None and scene.to_scale,
        doubt="" if are_sides_known(document.remarks) else "?",
        brain_window={"centre": f"{slice_images.BRAIN_WINDOW[0]:g}", "width": f"{slice_images.BRAIN_WINDOW[1]:g}"},
        style=Markup(_read_template(environment, "report.css")),
        scripts=[Markup(script) for script in scripts],
        # Only these scripts run, and nothing is ever fetched, whatever the document holds.
        script_hashes=" ".join(f"'sha256-{_hash_script(script)}'" for script in scripts),
        dash=_DASH,
    )


def _describe_stack(gallery: ResultImages, document: ResultDocument, say: Texts) -> dict[str, Any]:
    """Return what the page's viewer of all slices needs, ready for JSON."""
    packed = gallery.slice_stack
    count = len(packed.pngs)
    said = []
    for index, lines in enumerate(packed.outlines):
        inside = _list_lesions_on_slice(document, index) if lines else []
        key = "stack.at.bleeding" if inside else "stack.at"
        said.append(say(key, number=index + 1, count=count, regions=", ".join(map(str, inside))))
    bleeding = [index for index, lines in enumerate(packed.outlines) if lines]
    keys = [index for index in gallery.key_slices if index < count]
    return {
        "pngs": [base64.b64encode(png).decode("ascii") for png in packed.pngs],
        "width": packed.size[0],
        "height": packed.size[1],
        "aspect": round(packed.aspect, 6),
        "hu": [round(float(value), 2) for value in packed.level_hu],
        "paths": [_format_svg_path(lines) for lines in packed.outlines],
        "said": said,
        "bleeding": bleeding,
        "first": keys[0],
        "shrunk": packed.reduction,
    }


def _describe_slice(picture: SliceImage, document: ResultDocument) -> dict[str, object]:
    """Return what the template needs of one slice."""
    inside = _list_lesions_on_slice(document, picture.index) if picture.outlines else []
    more = ", …" if len(inside) > _MAX_NAMED_LESIONS else ""
    return {
        "number": picture.index + 1,
        "uri": "data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode("ascii"),
        "width": picture.size[0],
        "height": picture.size[1],
        "path": _format_svg_path(picture.outlines),
        "regions": len(inside),
        "named": ", ".join(map(str, inside[:_MAX_NAMED_LESIONS])) + more,
    }


def _list_lesions_on_slice(document: ResultDocument, index: int) -> list[int]:
    lesions = document.findings.lesions
    return [lesion.id for lesion in lesions if lesion.slices[0] <= index <= lesion.slices[1]]


def _inline_image(image: Image.Image | None) -> dict[str, object] | None:
    if image is None:
        return None
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=88, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
    return {"uri": uri, "width": image.width, "height": image.height}


def _format_svg_path(lines: Sequence[Polyline]) -> str:
    return " ".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line[:-1]) + "Z" for line in lines)


def _read_template(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash_script(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
