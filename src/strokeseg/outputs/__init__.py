"""The files of a result: written beside their place, and put there only when all of them are whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import UsageError
from strokeseg.imaging.components import Labels
from strokeseg.outputs import dicom
from strokeseg.outputs.folder import OutputFolder
from strokeseg.outputs.meshes import solids
from strokeseg.result import Findings, Remark, ResultDocument, Timing
from strokeseg.scan import Scan
from strokeseg.scene import Scene

if TYPE_CHECKING:
    from strokeseg.outputs.images.result_images import ResultImages

    _Meshes = Future[tuple[Scene, list[Remark]]]

__all__ = ["ALL_FORMATS", "DEFAULT_FORMATS", "MESH_FORMATS", "SOLID_FORMATS", "check", "check_formats", "save"]

DEFAULT_FORMATS = ("json", "nifti", "mesh", "report", "keys")
"""What is written where nothing else is asked for: "json" is written always."""
ALL_FORMATS = (*DEFAULT_FORMATS, *dicom.FORMATS, "nrrd", *solids.FORMATS, "montage", "planes", "views", "turn", "pdf")
"""What can be written."""
SOLID_FORMATS = frozenset(solids.FORMATS)
"""Closed surfaces in mm, for printing and measuring: only of a scan of known scale."""
MESH_FORMATS = SOLID_FORMATS | {"mesh", "report", "views", "turn", "pdf", "pdf-dicom"}
"""What is made of the meshes."""

_MAX_THREADS = 3
_MAX_PARALLEL_PIXELS = 2**26
"""Pixels: 256 slices of 512 x 512. Of a larger scan one file is made after the other, for each needs memory."""
_FILE_NAMES = {
    "json": ("result.json", "result.schema.json"),
    "nifti": ("mask.nii.gz", "ct.nii.gz", "lesions.nii.gz", "lesions.ctbl", "lesions_itksnap.txt"),
    "nrrd": ("lesions.seg.nrrd",),
    "mesh": ("scene.glb",),
    "report": ("report.html",),
    "pdf": ("report.pdf",),
    "keys": ("key_1.png",),
    "stl": ("brain.stl", "lesion_1.stl"),
    "ply": ("brain.ply", "lesion_1.ply"),
    "obj": ("scene.obj", "scene.mtl"),
    "montage": ("montage.png",),
    "planes": ("planes_1.png",),
    "views": ("views.png",),
    "turn": ("turn.webp",),
    "seg": ("seg.dcm",),
    "seg-labelmap": ("seg_labelmap.dcm",),
    "seg-probability": ("seg_probability.dcm",),
    "sr": ("sr.dcm", "seg.dcm"),
    "capture": ("capture_1.dcm",),
    "pdf-dicom": ("report_pdf.dcm",),
}


def check(out: str | Path, formats: Sequence[str], scan: Scan | None = None) -> None:
    """Find out, before any work is done, whether the results can be written; leaves nothing behind.

    Parameters
    ----------
    out : str or Path
        The folder to be, which need not be there yet.
    formats : sequence of str
        Of :data:`KNOWN`.
    scan : Scan, optional
        What is segmented, where it is read already.

    Raises
    ------
    UsageError
        `usage`, for an unknown format, or one that cannot be made of this scan.
    NotWritable, DiskFull
        `not-writable`, if ``out`` is a file, cannot be made or written, or holds a file of a needed name that is no
        result of StrokeSeg; `disk-full`.
    """
    if unknown := [name for name in formats if name not in ALL_FORMATS]:
        raise UsageError(
            f"format {', '.join(repr(name) for name in unknown)}: not known",
            f"Known formats: {', '.join(ALL_FORMATS)}.",
        )
    if scan is not None:
        check_formats(scan, formats)
    with OutputFolder(Path(out)) as delivery:
        delivery.refuse_foreign_files([name for chosen in {"json", *formats} for name in _FILE_NAMES[chosen]])
        (delivery.staging / "probe").write_bytes(b"\0" * 4096)


def check_formats(scan: Scan, formats: Sequence[str]) -> None:
    """Refuse what cannot be made of a scan.

    Raises
    ------
    UsageError
        `usage`: DICOM objects of what was no DICOM series, or solids in mm of what has no scale.
    """
    dicom.check_formats(scan, formats)
    solids.check(scan, formats)


def save(
    out: str | Path,
    document: ResultDocument,
    scan: Scan,
    mask: NDArray[np.bool_],
    labels: Labels,
    scene: Callable[[], tuple[Scene, list[Remark]]] | None,
    formats: Sequence[str],
    finish: Callable[[], Timing],
    *,
    probability: NDArray[np.float16] | None = None,
    native: bool = False,
) -> ResultDocument:
    """Write a result's files into a folder, all of them or none.

    They are made in a hidden folder inside ``out`` and renamed when all are whole, `result.json` last: where it lies,
    everything that it lists lies too. Files that an earlier `result.json` lists go away with it; any other file stays.

    Parameters
    ----------
    out : str or Path
        Folder, made if missing.
    document : ResultDocument
        The result so far; its files and timing are filled in.
    mask : ndarray of bool, shape (slices, rows, columns)
        On the scan's grid.
    labels : Labels
        The same shape; 0 is background, 1 the largest lesion.
    scene : callable or None
        Makes the meshes, beside the first files, and says what is wrong with them; None where none of
        :data:`SURFACES` is asked for.
    formats : sequence of str
        Of :data:`KNOWN`.
    finish : callable
        Gives the timing when everything but the report's text and `result.json` is written.
    probability : ndarray of float16, optional
        The same shape; only "seg-probability" needs it.
    native : bool, default: False
        Also write CT and mask as NIfTI on the planes as acquired.

    Returns
    -------
    ResultDocument
        The document as written.

    Raises
    ------
    UsageError
        `usage`, for a format that cannot be made of this scan.
    NotWritable, DiskFull
        `not-writable`, `disk-full`; nothing new is left and earlier results are as they were.
    """
    from strokeseg.outputs import result_json
    from strokeseg.outputs.report import html_report

    check_formats(scan, formats)
    made = datetime.now()
    with OutputFolder(Path(out)) as delivery:
        folder = delivery.staging
        files = {"result": result_json.NAME, "schema": result_json.SCHEMA_NAME}
        # NumPy and the encoders let go of the interpreter.
        with ThreadPoolExecutor(_MAX_THREADS if scan.hu.size <= _MAX_PARALLEL_PIXELS else 1) as threads:
            # What waits for the meshes comes after them: with one thread, too.
            meshes = threads.submit(scene) if scene else None
            volumes = threads.submit(_write_volumes, folder, scan, labels, formats)
            shapes = threads.submit(_write_meshes, folder, scan, meshes, formats)
            drawn = threads.submit(_write_images, folder, scan, mask, labels, document.findings, meshes, formats)
            told = threads.submit(dicom.save, folder, scan, document, labels, probability, formats, made=made)
            files |= volumes.result()
            shaped = shapes.result()
            gallery, pictures = drawn.result()
            objects, remarks = told.result()
        files |= {**shaped, **pictures, **objects}
        remarks = [*(meshes.result()[1] if meshes else []), *remarks]
        if native:
            beside, unsaid = _write_native(folder, scan, mask)
            files, remarks = files | beside, [*remarks, *unsaid]
        document = document.model_copy(update={"remarks": [*document.remarks, *remarks]})
        files |= _write_pdf(folder, document, gallery, formats, made)
        files |= {"report": html_report.NAME} if "report" in formats else {}
        document = document.model_copy(update={"files": files, "timing_s": finish()})
        if "report" in formats:
            html_report.save(folder, document, gallery)
        result_json.save(folder, document)
        delivery.commit(list(files.values()), last=result_json.NAME)
    return document


def _write_volumes(folder: Path, scan: Scan, labels: Labels, formats: Sequence[str]) -> dict[str, str]:
    from strokeseg.outputs import lesion_labels as names
    from strokeseg.outputs.volumes import nifti, nrrd

    if not {"nifti", "nrrd"} & set(formats):
        return {}
    volume = nifti.make_regular(scan, labels)
    files: dict[str, str] = {}
    if "nifti" in formats:
        files |= nifti.save(folder, scan, volume)
        files |= names.save(folder, int(labels.max(initial=0)))
    if "nrrd" in formats:
        files |= nrrd.save(folder, volume, scan.spacing_known)
    return files


def _write_native(folder: Path, scan: Scan, mask: NDArray[np.bool_]) -> tuple[dict[str, str], list[Remark]]:
    from strokeseg.outputs.volumes import nifti

    remark = nifti.explain_missing_native(scan)
    return nifti.save_native(folder, scan, mask), [remark] if remark else []


def _write_meshes(folder: Path, scan: Scan, meshes: _Meshes | None, formats: Sequence[str]) -> dict[str, str]:
    """Write what is made of the meshes alone."""
    from strokeseg.outputs.images import scene_views
    from strokeseg.outputs.meshes import gltf

    if meshes is None:
        return {}
    scene, _ = meshes.result()
    files = gltf.save(folder, scene) if "mesh" in formats else {}
    for kind in solids.FORMATS:
        if kind in formats:
            files |= solids.save(folder, scene, kind)
    if "turn" in formats:
        files |= scene_views.save_turn(folder, scan, scene)
    return files


def _write_images(
    folder: Path,
    scan: Scan,
    mask: NDArray[np.bool_],
    labels: Labels,
    findings: Findings,
    meshes: _Meshes | None,
    formats: Sequence[str],
) -> tuple[ResultImages, dict[str, str]]:
    """Write the pictures, and draw those of the pages, which are made when all else is done."""
    from strokeseg.outputs.images.result_images import ResultImages

    gallery = ResultImages(scan, mask, labels, findings, meshes.result()[0] if meshes else None)
    files = gallery.save(folder, formats)
    gallery.draw_for_pages(formats)
    return gallery, files


def _write_pdf(
    folder: Path, document: ResultDocument, gallery: ResultImages, formats: Sequence[str], made: datetime
) -> dict[str, str]:
    """Write the PDF, and its DICOM object, when everything that has to be said is known."""
    if not {"pdf", "pdf-dicom"} & set(formats):
        return {}
    from strokeseg.outputs.report import pdf_report

    data, files = pdf_report.render_pdf(document, gallery), {}
    if "pdf" in formats:
        (folder / pdf_report.NAME).write_bytes(data)
        files["pdf"] = pdf_report.NAME
    if "pdf-dicom" in formats:
        objects, _ = dicom.save(folder, gallery.scan, document, gallery.labels, None, (), pdf=data, made=made)
        files |= objects
    return files
