"""A page for one person and one scan: `streamlit run app.py`. It shows what `strokeseg.segment` gives, no more.

Every page has its own state: what one browser uploads, no other sees, and closing the page forgets it.
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 - before Streamlit's threads do it: two at once would meet half of it
import plotly.graph_objects as go
import streamlit as st
from PIL import Image
from streamlit.runtime.uploaded_file_manager import UploadedFile

from strokeseg import outputs, pipeline, surfaces
from strokeseg.errors import StrokesegError
from strokeseg.imaging import components
from strokeseg.outputs.images import slice_images, slice_stack
from strokeseg.outputs.report import texts, wording
from strokeseg.result import DISCLAIMER, are_sides_known
from strokeseg.scene import Mesh, Scene

FORMATS = {
    "report": "report to read and print (HTML)",
    "pdf": "report (PDF)",
    "nifti": "CT and mask (NIfTI)",
    "nrrd": "segmentation for 3D Slicer (NRRD)",
    "seg": "DICOM segmentation",
    "sr": "DICOM measurements",
    "mesh": "3D scene (GLB)",
    "stl": "solids in mm (STL)",
    "keys": "pictures of the key slices",
    "montage": "all slices in one picture",
}
SAMPLE = Path(__file__).parent / "samples" / "ge_head.zip"


def main() -> None:
    """Draw the page."""
    st.set_page_config("StrokeSeg", layout="wide")
    st.title("StrokeSeg")
    st.caption("A head CT in, the bleeding out: outlined, measured where that is honest, and in three dimensions.")
    uploads, options = _asked()
    if uploads is not None:
        wanted = ([each.file_id for each in uploads] or "sample", options)
        if st.session_state.get("wanted") != wanted:
            st.session_state.update(wanted=wanted, result=None, failure=None, drawn=None)
            st.session_state.pop("slice", None)
            _segment(uploads, options)
    if (failure := st.session_state.get("failure")) is not None:
        _refuse(failure)
    elif (result := st.session_state.get("result")) is not None:
        _show(result)
    st.divider()
    st.caption(DISCLAIMER)


def _asked() -> tuple[Sequence[UploadedFile] | None, dict[str, Any]]:
    """Ask for files and how to read them; None instead of files until there is something to do."""
    with st.sidebar:
        files = st.file_uploader(
            "A zip, a NIfTI, pictures, or all DICOM files of a series", accept_multiple_files=True, key="files_of_scan"
        )
        # What is shown stays when another button is pressed; a new upload takes its place.
        if st.button("Take the sample", disabled=bool(files) or not SAMPLE.exists(), key="take_sample"):
            st.session_state["sample"] = True
        with st.expander("Pictures of known scale"):
            known = st.toggle("The scale is known", key="scale_known")
            step, row, column = (
                st.number_input(f"{what} mm", 0.05, 50.0, value, 0.05, disabled=not known, key=f"spacing_{what}")
                for what, value in (("Slices", 5.0), ("Rows", 0.45), ("Columns", 0.45))
            )
    options = {"spacing_mm": (step, row, column) if known else None}
    if files:
        st.session_state["sample"] = False
        return files, options
    return ([], {"spacing_mm": None}) if st.session_state.get("sample") else (None, options)


def _segment(uploads: Sequence[UploadedFile], options: dict[str, Any]) -> None:
    bar = st.progress(0.0, "Reading")

    def move(done: int, total: int) -> None:
        bar.progress(done / total, f"Segmenting: slice {done} of {total}")

    try:
        with tempfile.TemporaryDirectory() as folder:
            source = _stored(uploads, Path(folder)) if uploads else SAMPLE
            st.session_state["result"] = pipeline.segment(source, progress=move, **options)
    except StrokesegError as error:
        where = error.message.replace(f"{folder}/", "").replace(folder, "the upload")
        st.session_state["failure"] = (where, error.remedy, error.code)
    bar.empty()


def _stored(uploads: Sequence[UploadedFile], folder: Path) -> Path:
    """Write the files into a folder under their own last names; give the only one, or the folder."""
    for number, upload in enumerate(uploads):
        name = upload.name.replace("\\", "/").rsplit("/", 1)[-1].lstrip(".")[-100:] or "file"
        path = folder / name
        if path.exists():
            path = folder / f"{number}_{name}"
        path.write_bytes(upload.getbuffer())
    return path if len(uploads) == 1 else folder


def _refuse(failure: tuple[str, str, str]) -> None:
    message, remedy, code = map(_plain, failure)
    st.error(f"**This scan cannot be answered.** {message}\n\n**What to do:** {remedy}\n\nCode: {code}")


def _plain(text: str) -> str:
    """Escape what would be drawn as Markdown: a file's name may hold anything, also a link."""
    return re.sub(r"([^\w\s.,;])", r"\\\1", text)


def _show(result: pipeline.Result) -> None:
    say, document = texts.load_texts(), result.document
    summary = _plain(wording.summarize(document, say))
    (st.warning if document.findings.hemorrhage else st.success)(summary)
    for remark in result.remarks:
        where = wording.format_remark_slices(remark.slices, say)
        {"warning": st.warning, "repaired": st.info}.get(remark.severity, st.caption)(
            _plain(f"{remark.message} {where}")
        )
    left, right = st.columns([3, 2])
    with left:
        _slices(result)
    with right:
        _figures(result)
        _scene(result)
    _lesions(result)
    _downloads(result)


def _slices(result: pipeline.Result) -> None:
    scan, count, say = result.scan, result.scan.shape[0], texts.load_texts()
    # The grey levels of pictures mean nothing outside of their own window.
    windows = slice_stack.VIEWER_WINDOWS if scan.calibrated else {"own": scan.window or slice_images.BRAIN_WINDOW}
    preset = st.segmented_control(
        say("stack.window"),
        list(windows),
        default=next(iter(windows)),
        format_func=lambda name: say(f"stack.window.{name}"),
        required=True,
        key=f"window_{len(windows)}",
    )
    with_outline = st.toggle("Outline of the bleeding", value=True, key="outline")
    labels, _ = components.label(result.mask, scan)
    best = slice_images.choose_key_slices(labels)[0] + 1
    number = st.slider("Slice, 1 is the lowest", 1, count, best, key="slice") if count > 1 else 1
    image = _picture(result, number - 1, windows[preset], with_outline)
    st.image(image, caption=f"Slice {number} of {count}", width="stretch", output_format="PNG")
    doubt = "" if are_sides_known(scan.remarks) else " (assumed)"
    st.caption(f"Left of the picture: right of the patient{doubt}. Top: front.")


def _picture(result: pipeline.Result, index: int, window: tuple[float, float], with_outline: bool) -> Image.Image:
    """Draw a slice face up with square pixels, at least 512 a side."""
    scan, (centre, width) = result.scan, window
    shown = scan.planes.turn_upright(scan.hu[index])
    grey = ((shown.astype("float32") - (centre - width / 2)) * (255 / width)).clip(0, 255).astype("uint8")
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    finest = min(row_mm, column_mm)
    scale = max(1.0, 512 / min(grey.shape[0] * row_mm / finest, grey.shape[1] * column_mm / finest))
    size = round(grey.shape[1] * column_mm / finest * scale), round(grey.shape[0] * row_mm / finest * scale)
    image = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)
    return (
        slice_images.draw_outlines(image, slice_images.trace_outlines(scan, result.mask[index], size))
        if with_outline
        else image
    )


def _figures(result: pipeline.Result) -> None:
    columns = st.columns(2)
    for number, figure in enumerate(wording.list_figures(result.document, texts.load_texts())):
        value = "not known" if figure.value is None else f"{figure.value} {figure.unit}".strip()
        columns[number % 2].metric(figure.label, value)


def _lesions(result: pipeline.Result) -> None:
    document, say = result.document, texts.load_texts()
    if not document.findings.lesions:
        return
    st.subheader("Lesions")
    columns = wording.list_columns(document, say)
    rows = [
        {"Lesion": lesion.id, **{f"{c.title} {c.unit}".strip(): c.text(lesion) or "–" for c in columns}}
        for lesion in document.findings.lesions
    ]
    st.dataframe(rows, hide_index=True)
    for reason in wording.explain_empty_cells(columns, document.findings, say):
        st.caption(_plain(reason))


def _scene(result: pipeline.Result) -> None:
    if st.session_state["drawn"] is None:
        labels, _ = components.label(result.mask, result.scan)
        st.session_state["drawn"] = _figure(surfaces.build_scene(result.scan, labels))
    st.plotly_chart(st.session_state["drawn"], key="scene", config={"displaylogo": False})
    known = "" if result.scan.spacing_known else " Not to scale: the spacing is not known."
    st.caption(f"From the front; drag to turn.{known}")


def _figure(scene: Scene) -> go.Figure:
    brain = [] if scene.brain is None else [_mesh(scene.brain, "Brain", "#b9c4cf", 0.18)]
    figure = go.Figure(brain + [_mesh(each, f"Lesion {n}", "#d62828", 1.0) for n, each in enumerate(scene.lesions, 1)])
    # LPS: x to the patient's left, y to the back. Looked at from the front.
    eye, hidden = {"x": 0.6, "y": -1.6, "z": 0.5}, {"visible": False}
    axes = {"xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "aspectmode": "data", "camera": {"eye": eye}}
    return figure.update_layout(scene=axes, margin={"l": 0, "r": 0, "t": 0, "b": 0}, height=420)


def _mesh(mesh: Mesh, name: str, colour: str, opacity: float) -> go.Mesh3d:
    (x, y, z), (i, j, k) = mesh.vertices_mm.T, mesh.faces.T
    look = {"color": colour, "opacity": opacity, "name": name, "hoverinfo": "name", "flatshading": False}
    return go.Mesh3d(x=x, y=y, z=z, i=i, j=j, k=k, **look)


def _downloads(result: pipeline.Result) -> None:
    st.subheader("Files")
    possible = [name for name in FORMATS if _can(result, name)]
    chosen = st.multiselect(
        "Formats", possible, default=["report", "nifti"], format_func=FORMATS.__getitem__, key="formats"
    )
    st.download_button(
        "Download as a zip",
        _packed(result, chosen),
        "strokeseg.zip",
        "application/zip",
        on_click="ignore",
        key="download",
    )


def _can(result: pipeline.Result, name: str) -> bool:
    try:
        outputs.check_formats(result.scan, [name])
    except StrokesegError:
        return False
    return True


def _packed(result: pipeline.Result, chosen: Sequence[str]) -> Callable[[], bytes]:
    def content() -> bytes:
        packed = io.BytesIO()
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            document = result.save(folder, ["json", *chosen])
            for name in sorted({"result.json", *document.files.values()}):
                archive.write(Path(folder) / name, name)
        return packed.getvalue()

    return content


if __name__ == "__main__":
    main()
