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

from strokeseg.result import ResultDocument, sides_known
from strokeseg.write import mesh, pictures, stack, texts, wording
from strokeseg.write.gallery import Gallery
from strokeseg.write.pictures import Points, SlicePicture
from strokeseg.write.texts import Texts

NAME = "report.html"

_DASH = "–"
_MOST_REGIONS = 4


def save(folder: Path, document: ResultDocument, gallery: Gallery) -> None:
    """Write `report.html`.

    Parameters
    ----------
    document : the result as `result.json` holds it; every figure and sentence of the report comes from it
    gallery : the result's pictures; without any surface the report says that there is none
    """
    (folder / NAME).write_text(html(document, gallery), "utf-8")


def html(document: ResultDocument, gallery: Gallery, language: str = "en") -> str:
    """Give the report's text; all that comes from the document is escaped."""
    environment = Environment(
        loader=PackageLoader("strokeseg.write"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    say, scene = texts.load(language), gallery.scene
    packed = mesh.packed(scene) if scene is not None else None
    names = ["report.js"] if packed is None else ["report.js", "scene.js"]
    scripts = [_source(environment, name) for name in names]
    columns = wording.columns(document, say)
    shown = pictures.for_report(gallery.scan, gallery.mask)
    return environment.get_template("report.html.j2").render(
        say=say,
        wording=wording,
        document=document,
        findings=document.findings,
        columns=columns,
        reasons=wording.reasons(columns, document.findings, say),
        slices=[_slice(picture, document) for picture in shown.slices],
        shown=shown,
        stack=_stack(gallery, document, say),
        windows=stack.windows(gallery.scan),
        midline=_inline(gallery.midline),
        scene=packed,
        to_scale=scene is not None and scene.to_scale,
        doubt="" if sides_known(document.remarks) else "?",
        brain_window={"centre": f"{pictures.WINDOW[0]:g}", "width": f"{pictures.WINDOW[1]:g}"},
        style=Markup(_source(environment, "report.css")),
        scripts=[Markup(script) for script in scripts],
        # Only these scripts run, and nothing is ever fetched, whatever the document holds.
        script_hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        dash=_DASH,
    )


def _stack(gallery: Gallery, document: ResultDocument, say: Texts) -> dict[str, Any]:
    """Give what the page's viewer of all slices needs, ready for JSON."""
    packed = gallery.stack
    count = len(packed.pngs)
    said = []
    for index, lines in enumerate(packed.outlines):
        inside = _regions(document, index) if lines else []
        key = "stack.at.bleeding" if inside else "stack.at"
        said.append(say(key, number=index + 1, count=count, regions=", ".join(map(str, inside))))
    bleeding = [index for index, lines in enumerate(packed.outlines) if lines]
    keys = [index for index in gallery.keys if index < count]
    return {
        "pngs": [base64.b64encode(png).decode("ascii") for png in packed.pngs],
        "width": packed.size[0],
        "height": packed.size[1],
        "aspect": round(packed.aspect, 6),
        "hu": [round(float(value), 2) for value in packed.hu],
        "paths": [_path(lines) for lines in packed.outlines],
        "said": said,
        "bleeding": bleeding,
        "first": keys[0],
        "shrunk": packed.shrunk,
    }


def _slice(picture: SlicePicture, document: ResultDocument) -> dict[str, object]:
    """Give what the template needs of one slice."""
    inside = _regions(document, picture.index) if picture.outlines else []
    more = ", …" if len(inside) > _MOST_REGIONS else ""
    return {
        "number": picture.index + 1,
        "uri": "data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode("ascii"),
        "width": picture.size[0],
        "height": picture.size[1],
        "path": _path(picture.outlines),
        "regions": len(inside),
        "named": ", ".join(map(str, inside[:_MOST_REGIONS])) + more,
    }


def _regions(document: ResultDocument, index: int) -> list[int]:
    lesions = document.findings.lesions
    return [lesion.id for lesion in lesions if lesion.slices[0] <= index <= lesion.slices[1]]


def _inline(image: Image.Image | None) -> dict[str, object] | None:
    if image is None:
        return None
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=88, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
    return {"uri": uri, "width": image.width, "height": image.height}


def _path(lines: Sequence[Points]) -> str:
    return " ".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line[:-1]) + "Z" for line in lines)


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
