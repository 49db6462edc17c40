"""Writing the files of a result: all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging.components import Labels
from strokeseg.outputs import dicom
from strokeseg.outputs.folder import OutputFolder
from strokeseg.outputs.formats import check_formats
from strokeseg.outputs.meshes import solids
from strokeseg.result import Findings, Remark, ResultDocument, Timing
from strokeseg.scan import Scan
from strokeseg.scene import Scene

if TYPE_CHECKING:
    from strokeseg.outputs.images.result_images import ResultImages

    _Meshes = Future[tuple[Scene, list[Remark]]]

_MAX_THREADS = 3
_MAX_PARALLEL_PIXELS = 2**26
"""256 slices of 512 x 512. The files of a larger scan are written one after the other, since each needs memory."""


def save(
    out: str | Path,
    document: ResultDocument,
    scan: Scan,
    mask: NDArray[np.bool_],
    labels: Labels,
    make_scene: Callable[[], tuple[Scene, list[Remark]]] | None,
    formats: Sequence[str],
    finish_timing: Callable[[], Timing],
    *,
    probability: NDArray[np.float16] | None = None,
    native: bool = False,
) -> ResultDocument:
    """Write the files of a result into a folder, all of them or none.

    The files are written to a hidden folder inside ``out`` and renamed when all are complete, `result.json` last: if it
    exists, every file that it lists exists too. Files listed by an earlier `result.json` are removed; all other files
    stay.

    Parameters
    ----------
    out : str or Path
        Folder; created if missing.
    document : ResultDocument
        The result so far; its files and timing are added.
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion.
    make_scene : callable or None
        Computes the meshes and the remarks on them, in parallel with the first files; None if no format of
        :data:`strokeseg.outputs.formats.MESH_FORMATS` is requested.
    formats : sequence of str
        Some of :data:`strokeseg.outputs.formats.ALL_FORMATS`.
    finish_timing : callable
        Returns the timing; called when everything but the HTML report and `result.json` is written.
    probability : ndarray of float16, shape (slices, rows, columns), optional
        Probability map, which only "seg-probability" needs.
    native : bool, default: False
        Also write CT and mask as NIfTI on the planes as acquired.

    Returns
    -------
    ResultDocument
        The document as written.

    Raises
    ------
    UsageError
        `usage`, for a format that this scan cannot have.
    NotWritable, DiskFull
        `not-writable`, `disk-full`; no new file is left, and earlier results are unchanged.
    """
    from strokeseg.outputs import result_json
    from strokeseg.outputs.report import html_report

    check_formats(scan, formats)
    created = datetime.now()
    with OutputFolder(Path(out)) as output_folder:
        folder = output_folder.staging
        files = {"result": result_json.NAME, "schema": result_json.SCHEMA_NAME}
        # NumPy and the encoders release the interpreter lock.
        with ThreadPoolExecutor(_MAX_THREADS if scan.hu.size <= _MAX_PARALLEL_PIXELS else 1) as pool:
            # Tasks that wait for the meshes are submitted after them, so that a single thread works too.
            meshes = pool.submit(make_scene) if make_scene else None
            volumes = pool.submit(_write_volumes, folder, scan, labels, formats)
            surfaces = pool.submit(_write_meshes, folder, scan, meshes, formats)
            images = pool.submit(_write_images, folder, scan, mask, labels, document.findings, meshes, formats)
            objects = pool.submit(dicom.save, folder, scan, document, labels, probability, formats, created=created)
            files |= volumes.result() | surfaces.result()
            result_images, image_files = images.result()
            object_files, object_remarks = objects.result()
        files |= {**image_files, **object_files}
        remarks = [*(meshes.result()[1] if meshes else []), *object_remarks]
        if native:
            native_files, native_remarks = _write_native(folder, scan, mask)
            files, remarks = files | native_files, [*remarks, *native_remarks]
        document = document.model_copy(update={"remarks": [*document.remarks, *remarks]})
        files |= _write_pdf(folder, document, result_images, formats, created)
        files |= {"report": html_report.NAME} if "report" in formats else {}
        document = document.model_copy(update={"files": files, "timing_s": finish_timing()})
        if "report" in formats:
            html_report.save(folder, document, result_images)
        result_json.save(folder, document)
        output_folder.commit(list(files.values()), last=result_json.NAME)
    return document


def _write_volumes(folder: Path, scan: Scan, labels: Labels, formats: Sequence[str]) -> dict[str, str]:
    from strokeseg.outputs import lesion_labels
    from strokeseg.outputs.volumes import nifti, nrrd
    from strokeseg.outputs.volumes.regular_grid import make_regular

    if not {"nifti", "nrrd"} & set(formats):
        return {}
    volume = make_regular(scan, labels)
    files: dict[str, str] = {}
    if "nifti" in formats:
        files |= nifti.save(folder, scan, volume)
        files |= lesion_labels.save(folder, int(labels.max(initial=0)))
    if "nrrd" in formats:
        files |= nrrd.save(folder, volume, scan.spacing_known)
    return files


def _write_native(folder: Path, scan: Scan, mask: NDArray[np.bool_]) -> tuple[dict[str, str], list[Remark]]:
    from strokeseg.outputs.volumes import nifti

    remark = nifti.explain_missing_native(scan)
    return nifti.save_native(folder, scan, mask), [remark] if remark else []


def _write_meshes(folder: Path, scan: Scan, meshes: _Meshes | None, formats: Sequence[str]) -> dict[str, str]:
    """Write the formats that need only the meshes."""
    from strokeseg.outputs.images import scene_views
    from strokeseg.outputs.meshes import gltf

    if meshes is None:
        return {}
    scene, _ = meshes.result()
    files = gltf.save(folder, scene) if "mesh" in formats else {}
    for name in solids.FORMATS:
        if name in formats:
            files |= solids.save(folder, scene, name)
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
    """Write the image files, and draw the images of the report and the PDF, which are written last."""
    from strokeseg.outputs.images.result_images import ResultImages

    images = ResultImages(scan, mask, labels, findings, meshes.result()[0] if meshes else None)
    files = images.save(folder, formats)
    images.draw_for_pages(formats)
    return images, files


def _write_pdf(
    folder: Path, document: ResultDocument, images: ResultImages, formats: Sequence[str], created: datetime
) -> dict[str, str]:
    """Write the PDF and its DICOM object, when all remarks are known."""
    if not {"pdf", "pdf-dicom"} & set(formats):
        return {}
    from strokeseg.outputs.report import pdf_report

    data, files = pdf_report.render_pdf(document, images), {}
    if "pdf" in formats:
        (folder / pdf_report.NAME).write_bytes(data)
        files["pdf"] = pdf_report.NAME
    if "pdf-dicom" in formats:
        objects, _ = dicom.save(folder, images.scan, document, images.labels, None, (), pdf=data, created=created)
        files |= objects
    return files
