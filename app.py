"""A Streamlit page for one scan: `streamlit run app.py`. It shows the result of `strokeseg.segment` and adds nothing.

Each browser session has its own state: no other session sees an upload, and closing the page deletes it.
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 - before threads of Streamlit import it, two of which could meet it half imported
import plotly.graph_objects as go
import streamlit as st
from PIL import Image
from streamlit.runtime.uploaded_file_manager import UploadedFile

from strokeseg import outputs, pipeline, surfaces
from strokeseg.errors import StrokesegError
from strokeseg.outputs.images import slice_images, slice_stack
from strokeseg.outputs.report import wording
from strokeseg.outputs.report.texts import load_texts
from strokeseg.result import DISCLAIMER, are_sides_known
from strokeseg.scan_options import BRAIN_WINDOW, OperatingPointName
from strokeseg.scene import Mesh, Scene

FORMATS = {
    "report": "report (HTML)",
    "pdf": "report (PDF)",
    "nifti": "CT and mask (NIfTI)",
    "nrrd": "segmentation for 3D Slicer (NRRD)",
    "seg": "DICOM segmentation",
    "sr": "DICOM measurements",
    "mesh": "3D scene (GLB)",
    "stl": "surfaces in mm (STL)",
    "keys": "key slices (PNG)",
    "montage": "all slices in one image (PNG)",
}
SLICE_ORDERS = {
    "auto": "found from the anatomy",
    "lowest-first": "first picture is the lowest",
    "highest-first": "first picture is the highest",
}
SAMPLE = Path(__file__).parent / "samples" / "ge_head.zip"


def main() -> None:
    """Draw the page."""
    st.set_page_config("StrokeSeg", layout="wide")
    st.title("StrokeSeg")
    st.caption("Segments intracranial hemorrhage in head CT: outline, measurements and a 3D view.")
    uploads, options = _ask_for_input()
    if uploads is not None:
        request = ([each.file_id for each in uploads] or "sample", options)
        if st.session_state.get("request") != request:
            st.session_state.update(request=request, result=None, failure=None, scene_figure=None)
            st.session_state.pop("slice", None)
            _segment(uploads, options)
    if (failure := st.session_state.get("failure")) is not None:
        _show_failure(failure)
    elif (result := st.session_state.get("result")) is not None:
        _show(result)
    st.divider()
    st.caption(DISCLAIMER)


def _ask_for_input() -> tuple[Sequence[UploadedFile] | None, dict[str, Any]]:
    """Ask for files and for reading options; return None in place of files until there is an input."""
    with st.sidebar:
        files = st.file_uploader(
            "A zip, a NIfTI file, pictures, or all DICOM files of a series",
            accept_multiple_files=True,
            key="files_of_scan",
        )
        # The sample stays selected when another button is pressed; a new upload replaces it.
        if st.button("Use the sample", disabled=bool(files) or not SAMPLE.exists(), key="take_sample"):
            st.session_state["sample"] = True
        with st.expander("Pictures: scale and order"):
            is_known = st.toggle("The scale is known", key="scale_known")
            step, row, column = (
                st.number_input(f"{axis} mm", 0.05, 50.0, value, 0.05, disabled=not is_known, key=f"spacing_{axis}")
                for axis, value in (("Slices", 5.0), ("Rows", 0.45), ("Columns", 0.45))
            )
            order = st.selectbox(
                "Order of pictures",
                list(SLICE_ORDERS),
                format_func=SLICE_ORDERS.get,
                key="slice_order",
            )
        point = st.selectbox("Operating point", list(OperatingPointName), index=1, key="operating_point")
    options = {"operating_point": str(point), "spacing_mm": (step, row, column) if is_known else None, "order": order}
    if files:
        st.session_state["sample"] = False
        return files, options
    return ([], {"operating_point": str(point)}) if st.session_state.get("sample") else (None, options)


def _segment(uploads: Sequence[UploadedFile], options: dict[str, Any]) -> None:
    bar = st.progress(0.0, "Reading")

    def show_progress(completed: int, total: int) -> None:
        bar.progress(completed / total, f"Segmenting: slice {completed} of {total}")

    try:
        with tempfile.TemporaryDirectory() as folder:
            source = _store_uploads(uploads, Path(folder)) if uploads else SAMPLE
            st.session_state["result"] = pipeline.segment(source, progress=show_progress, **options)
    except StrokesegError as error:
        message = error.message.replace(f"{folder}/", "").replace(folder, "the upload")
        st.session_state["failure"] = (message, error.remedy, error.code)
    bar.empty()


def _store_uploads(uploads: Sequence[UploadedFile], folder: Path) -> Path:
    """Write the files into a folder under their own base names; return the only file, or the folder."""
    for number, upload in enumerate(uploads):
        name = upload.name.replace("\\", "/").rsplit("/", 1)[-1].lstrip(".")[-100:] or "file"
        path = folder / name
        if path.exists():
            path = folder / f"{number}_{name}"
        path.write_bytes(upload.getbuffer())
    return path if len(uploads) == 1 else folder


def _show_failure(failure: tuple[str, str, str]) -> None:
    message, remedy, code = map(_escape_markdown, failure)
    st.error(f"**This scan cannot be segmented.** {message}\n\n**What to do:** {remedy}\n\nCode: {code}")


def _escape_markdown(text: str) -> str:
    """Escape Markdown: a file name may contain anything, even a link."""
    return re.sub(r"([^\w\s.,;])", r"\\\1", text)


def _show(result: pipeline.Result) -> None:
    texts, document = load_texts(), result.document
    summary = _escape_markdown(wording.summarize(document, texts))
    (st.warning if document.findings.hemorrhage else st.success)(summary)
    for remark in result.remarks:
        slices = wording.format_remark_slices(remark.slices, texts)
        {"warning": st.warning, "repaired": st.info}.get(remark.severity, st.caption)(
            _escape_markdown(f"{remark.message} {slices}")
        )
    left, right = st.columns([3, 2])
    with left:
        _show_slices(result)
    with right:
        _show_figures(result)
        _show_scene(result)
    _show_lesions(result)
    _show_downloads(result)


def _show_slices(result: pipeline.Result) -> None:
    scan, count, texts = result.scan, result.scan.shape[0], load_texts()
    # The grey levels of pictures have no meaning outside their own window.
    windows = slice_stack.VIEWER_WINDOWS if scan.calibrated else {"own": scan.window or BRAIN_WINDOW}
    preset = st.segmented_control(
        texts("stack.window"),
        list(windows),
        default=next(iter(windows)),
        format_func=lambda name: texts(f"stack.window.{name}"),
        required=True,
        key=f"window_{len(windows)}",
    )
    show_outline = st.toggle("Outline of the lesions", value=True, key="outline")
    best = slice_images.choose_key_slices(result.labels)[0] + 1
    number = st.slider("Slice, 1 is the lowest", 1, count, best, key="slice") if count > 1 else 1
    image = _draw_slice(result, number - 1, windows[preset], show_outline)
    st.image(image, caption=f"Slice {number} of {count}", width="stretch", output_format="PNG")
    assumed = "" if are_sides_known(scan.remarks) else " (assumed)"
    st.caption(f"Image left is patient right{assumed}; image top is anterior.")


def _draw_slice(result: pipeline.Result, index: int, window: tuple[float, float], show_outline: bool) -> Image.Image:
    """Draw a slice upright with square pixels, at least 512 pixels a side."""
    scan, (centre, width) = result.scan, window
    upright = scan.planes.turn_upright(scan.hu[index])
    grey = ((upright.astype("float32") - (centre - width / 2)) * (255 / width)).clip(0, 255).astype("uint8")
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    finest = min(row_mm, column_mm)
    scale = max(1.0, 512 / min(grey.shape[0] * row_mm / finest, grey.shape[1] * column_mm / finest))
    size = round(grey.shape[1] * column_mm / finest * scale), round(grey.shape[0] * row_mm / finest * scale)
    image = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)
    if not show_outline:
        return image
    return slice_images.draw_outlines(image, slice_images.trace_outlines(scan, result.mask[index], size))


def _show_figures(result: pipeline.Result) -> None:
    columns = st.columns(2)
    for number, figure in enumerate(wording.list_figures(result.document, load_texts())):
        value = "unknown" if figure.value is None else f"{figure.value} {figure.unit}".strip()
        columns[number % 2].metric(figure.label, value)


def _show_lesions(result: pipeline.Result) -> None:
    document, texts = result.document, load_texts()
    if not document.findings.lesions:
        return
    st.subheader("Lesions")
    columns = wording.list_columns(document, texts)
    rows = [
        {"Lesion": lesion.id, **{f"{c.title} {c.unit}".strip(): c.text(lesion) or "–" for c in columns}}
        for lesion in document.findings.lesions
    ]
    st.dataframe(rows, hide_index=True)
    for reason in wording.explain_empty_cells(columns, document.findings, texts):
        st.caption(_escape_markdown(reason))


def _show_scene(result: pipeline.Result) -> None:
    if st.session_state["scene_figure"] is None:
        st.session_state["scene_figure"] = _make_scene_figure(surfaces.build_scene(result.scan, result.labels))
    st.plotly_chart(st.session_state["scene_figure"], key="scene", config={"displaylogo": False})
    scale_note = "" if result.scan.spacing_known else " Not to scale: the spacing is unknown."
    st.caption(f"View from the front; drag to rotate.{scale_note}")


def _make_scene_figure(scene: Scene) -> go.Figure:
    brain = [] if scene.brain is None else [_make_mesh(scene.brain, "Brain", "#b9c4cf", 0.18)]
    figure = go.Figure(
        brain + [_make_mesh(each, f"Lesion {n}", "#d62828", 1.0) for n, each in enumerate(scene.lesions, 1)]
    )
    # LPS: x to the patient's left, y posterior. View from the front.
    eye, hidden = {"x": 0.6, "y": -1.6, "z": 0.5}, {"visible": False}
    axes = {"xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "aspectmode": "data", "camera": {"eye": eye}}
    return figure.update_layout(scene=axes, margin={"l": 0, "r": 0, "t": 0, "b": 0}, height=420)


def _make_mesh(mesh: Mesh, name: str, colour: str, opacity: float) -> go.Mesh3d:
    (x, y, z), (i, j, k) = mesh.vertices_mm.T, mesh.faces.T
    style = {"color": colour, "opacity": opacity, "name": name, "hoverinfo": "name", "flatshading": False}
    return go.Mesh3d(x=x, y=y, z=z, i=i, j=j, k=k, **style)


def _show_downloads(result: pipeline.Result) -> None:
    st.subheader("Files")
    possible = [name for name in FORMATS if _is_possible(result, name)]
    chosen = st.multiselect(
        "Formats", possible, default=["report", "nifti"], format_func=FORMATS.__getitem__, key="formats"
    )
    st.download_button(
        "Download as a zip",
        _make_archive(result, chosen),
        "strokeseg.zip",
        "application/zip",
        on_click="ignore",
        key="download",
    )


def _is_possible(result: pipeline.Result, name: str) -> bool:
    try:
        outputs.check_formats(result.scan, [name])
    except StrokesegError:
        return False
    return True


def _make_archive(result: pipeline.Result, chosen: Sequence[str]) -> Callable[[], bytes]:
    def write_archive() -> bytes:
        buffer = io.BytesIO()
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            document = result.save(folder, ["json", *chosen])
            for name in sorted({"result.json", *document.files.values()}):
                archive.write(Path(folder) / name, name)
        return buffer.getvalue()

    return write_archive


if __name__ == "__main__":
    main()
