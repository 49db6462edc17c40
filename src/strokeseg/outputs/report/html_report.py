"""The report as `report.html`: one file that works offline and sends no requests."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from strokeseg.outputs.images import slice_images, slice_stack
from strokeseg.outputs.images.result_images import ResultImages
from strokeseg.outputs.images.slice_images import SliceImage, format_svg_path
from strokeseg.outputs.meshes import gltf
from strokeseg.outputs.report import wording
from strokeseg.outputs.report.texts import Texts, load_texts
from strokeseg.result import ResultDocument, are_sides_known
from strokeseg.scan_options import BRAIN_WINDOW

NAME = "report.html"

_DASH = "–"
_MAX_NAMED_LESIONS = 4


def save(folder: Path, document: ResultDocument, images: ResultImages) -> None:
    """Write `report.html`.

    Parameters
    ----------
    folder : Path
        Where to write it.
    document : ResultDocument
        The result as in `result.json`; every figure and sentence of the report comes from it.
    images : ResultImages
        The images of the result. Without any surface the report states that there is no 3D view.
    """
    (folder / NAME).write_text(render_html(document, images), "utf-8")


def render_html(document: ResultDocument, images: ResultImages, language: str = "en") -> str:
    """Render the report; all text from the document is escaped."""
    environment = make_environment("strokeseg.outputs.report")
    texts, scene = load_texts(language), images.scene
    viewer_scene = gltf.pack_for_viewer(scene) if scene is not None else None
    names = ["report.js"] if viewer_scene is None else ["report.js", "scene.js"]
    scripts = [read_template(environment, name) for name in names]
    columns = wording.list_columns(document, texts)
    chosen = slice_images.draw_report_slices(images.scan, images.mask)
    centre, width = BRAIN_WINDOW
    return environment.get_template("report.html.j2").render(
        texts=texts,
        wording=wording,
        document=document,
        findings=document.findings,
        columns=columns,
        reasons=wording.explain_empty_cells(columns, document.findings, texts),
        slices=[_describe_slice(image, document) for image in chosen.slices],
        positive_count=chosen.positive_count,
        stack=_describe_stack(images, document, texts),
        windows=slice_stack.choose_windows(images.scan),
        midline=_inline_image(images.midline),
        scene=viewer_scene,
        to_scale=scene is not None and scene.to_scale,
        uncertain="" if are_sides_known(document.remarks) else "?",
        brain_window={"centre": f"{centre:g}", "width": f"{width:g}"},
        style=Markup(read_template(environment, "report.css")),
        scripts=[Markup(script) for script in scripts],
        # Only these scripts may run, and the page may load nothing, whatever the document contains.
        script_hashes=" ".join(f"'sha256-{_hash_script(script)}'" for script in scripts),
        dash=_DASH,
    )


def make_environment(package: str) -> Environment:
    """Return the template environment of a package: it escapes all values and refuses undefined names."""
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def read_template(environment: Environment, name: str) -> str:
    """Return the source of a template file."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _describe_stack(images: ResultImages, document: ResultDocument, texts: Texts) -> dict[str, Any]:
    """Return the data of the slice viewer, ready for JSON."""
    stack = images.slice_stack
    count = len(stack.pngs)
    captions = []
    for index, lines in enumerate(stack.outlines):
        lesions = _list_lesions_on_slice(document, index) if lines else []
        key = "stack.at.lesions" if lesions else "stack.at"
        captions.append(texts(key, number=index + 1, count=count, lesions=", ".join(map(str, lesions))))
    positive = [index for index, lines in enumerate(stack.outlines) if lines]
    keys = [index for index in images.key_slices if index < count]
    return {
        "pngs": [base64.b64encode(png).decode("ascii") for png in stack.pngs],
        "width": stack.size[0],
        "height": stack.size[1],
        "aspect": round(stack.aspect, 6),
        "hu": [round(float(value), 2) for value in stack.level_hu],
        "paths": [format_svg_path(lines) for lines in stack.outlines],
        "captions": captions,
        "positive": positive,
        "first": keys[0],
        "reduction": stack.reduction,
    }


def _describe_slice(image: SliceImage, document: ResultDocument) -> dict[str, object]:
    """Return the template's data of one slice."""
    lesions = _list_lesions_on_slice(document, image.index) if image.outlines else []
    more = ", …" if len(lesions) > _MAX_NAMED_LESIONS else ""
    return {
        "number": image.index + 1,
        "uri": "data:image/jpeg;base64," + base64.b64encode(image.jpeg).decode("ascii"),
        "width": image.size[0],
        "height": image.size[1],
        "path": format_svg_path(image.outlines),
        "lesion_count": len(lesions),
        "lesion_names": ", ".join(map(str, lesions[:_MAX_NAMED_LESIONS])) + more,
    }


def _list_lesions_on_slice(document: ResultDocument, index: int) -> list[int]:
    lesions = document.findings.lesions
    return [lesion.id for lesion in lesions if lesion.slices[0] <= index <= lesion.slices[1]]


def _inline_image(image: Image.Image | None) -> dict[str, object] | None:
    if image is None:
        return None
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"uri": uri, "width": image.width, "height": image.height}


def _hash_script(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
