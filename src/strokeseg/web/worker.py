"""The steps of a study as a worker process runs them: each reads folders and fills one.

Nothing here uses the database or the storage: the output of a step is valid only once the parent has stored it.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import mimetypes
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from strokeseg import measurements, outputs, pipeline, segmentation
from strokeseg.errors import InconsistentGeometry, UsageError
from strokeseg.followup import comparison
from strokeseg.followup.document import ChangeDocument
from strokeseg.result import Findings, Remark, ResultDocument, Timing
from strokeseg.scan import Scan
from strokeseg.web import intermediates
from strokeseg.web.schemas import ResultFile, ResultFiles

ReportProgress = Callable[[int, int], None]
MANIFEST = "files.json"
"""Lists the files of a result, beside them."""
LABELS = "labels.bin"
"""The number of each pixel's lesion, compressed, beside the files of a result."""
_MEDIA_TYPES = {
    ".dcm": "application/dicom",
    ".glb": "model/gltf-binary",
    ".stl": "model/stl",
    ".ply": "application/octet-stream",
    ".nrrd": "application/octet-stream",
    ".gz": "application/gzip",
    ".webp": "image/webp",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".ctbl": "text/plain; charset=utf-8",
}
_LAZY_MODULES = (
    "measurements.findings",
    "outputs.dicom.objects",
    "outputs.images.result_images",
    "outputs.report.html_report",
    "outputs.result_json",
    "reading.dispatch",
    "segmentation.postprocess",
    "segmentation.slice_prediction",
    "surfaces",
)
"""Modules that the package imports only when it needs them."""


_DECISION_OPTIONS = ("operating_point", "threshold", "smallest_ml")


def preload(model: str) -> None:
    """Load what every study needs, before the first one arrives."""
    for name in _LAZY_MODULES:
        importlib.import_module(f"strokeseg.{name}")
    segmentation.load_engine(model)


def read(upload: str, out: str, options: dict[str, Any], _report: ReportProgress) -> int:
    """Read an upload and return the number of slices; raises InputError."""
    start = time.perf_counter()
    window, spacing = (None if options[name] is None else tuple(options[name]) for name in ("window", "spacing_mm"))
    order = options.get("order") or "auto"  # studies stored by 0.1.0 have no order
    scan = pipeline.read_scan(Path(upload), window=window, spacing_mm=spacing, order=order, series=options["series"])
    intermediates.save_scan(Path(out), scan, _seconds_since(start))
    return len(scan.hu)


def segment(
    scan_folder: str, out: str, model: str, threads: int, options: dict[str, Any], report: ReportProgress
) -> None:
    """Run the network; raises ModelError."""
    scan, _ = intermediates.load_scan(Path(scan_folder))
    start = time.perf_counter()
    chosen = {name: options[name] for name in _DECISION_OPTIONS if options.get(name) is not None}
    prediction = pipeline.predict(scan, model=model, threads=threads, progress=report, **chosen)
    intermediates.save_prediction(Path(out), prediction, _seconds_since(start))


def measure(scan_folder: str, answer_folder: str, out: str, _report: ReportProgress) -> dict[str, Any]:
    """Measure the network's mask and return the findings that the worklist shows."""
    scan, read_s = intermediates.load_scan(Path(scan_folder))
    prediction, infer_s = intermediates.load_prediction(Path(answer_folder))
    result = pipeline.measure_prediction(scan, prediction, Timing(read=read_s, infer=infer_s))
    intermediates.save_findings(Path(out), result)
    intermediates.save_thumbnail(Path(out), scan, result.mask)
    return summarize(result.findings)


def measure_edit(
    scan_folder: str, answer_folder: str, edit: str, out: str, version: int, _report: ReportProgress
) -> dict[str, Any]:
    """Measure a corrected mask and return the findings that the worklist shows.

    The network's confidence and interval do not apply to a corrected mask and are left out.
    """
    scan, read_s = intermediates.load_scan(Path(scan_folder))
    prediction, infer_s = intermediates.load_prediction(Path(answer_folder))
    mask = decode_mask(Path(edit).read_bytes(), scan.shape)
    start = time.perf_counter()
    message = f"A person corrected the outline; this is version {version}. Version 0 is the network's result."
    remark = Remark(code="corrected", severity="info", message=message)
    findings = measurements.measure(scan, mask)
    timing = Timing(read=read_s, infer=infer_s, measure=_seconds_since(start))
    result = pipeline.Result(
        scan.with_remarks(remark), prediction.output.probability, mask, findings, prediction.model, timing
    )
    intermediates.save_findings(Path(out), result)
    intermediates.save_thumbnail(Path(out), scan, mask)
    return summarize(findings)


def write_files(
    scan_folder: str,
    answer_folder: str,
    findings_folder: str,
    out: str,
    formats: tuple[str, ...],
    _report: ReportProgress,
) -> int:
    """Write all files of a result that its scan allows, and their manifest; return their size in bytes."""
    result = intermediates.load_result(Path(scan_folder), Path(answer_folder), Path(findings_folder))
    folder = Path(out)
    document = result.save(folder, [name for name in formats if _is_possible(result.scan, name)])
    compressed = gzip.compress(np.minimum(result.labels, 255).astype(np.uint8).tobytes(), 6, mtime=0)
    (folder / LABELS).write_bytes(compressed)
    return _write_manifest(folder, document)


def compare(earlier: tuple[str, str, str], later: tuple[str, str, str], out: str, _report: ReportProgress) -> None:
    """Compare two results and write the files; raises DifferentPatients, InconsistentGeometry."""
    before, after = (intermediates.load_result(*(Path(folder) for folder in side)) for side in (earlier, later))
    document = comparison.compare(before, after).save(out)
    _write_manifest(Path(out), document)


def summarize(findings: Findings) -> dict[str, Any]:
    """Return the findings that the worklist shows."""
    return findings.model_dump(include={"hemorrhage", "confidence", "volume_ml", "volume_interval_ml"}, mode="json")


def decode_mask(data: bytes, shape: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Decode a corrected mask; never decompresses more bytes than the scan has pixels.

    Parameters
    ----------
    data : bytes
        One byte per pixel, compressed with gzip; not 0 for blood.
    shape : tuple of (int, int, int)
        Slices, rows and columns of the scan.

    Returns
    -------
    ndarray of bool, shape (slices, rows, columns)
        The mask.

    Raises
    ------
    InconsistentGeometry
        `geometry`, if it is damaged or has a different size.
    """
    size = int(np.prod(shape))
    decompressor = zlib.decompressobj(31)
    try:
        content = decompressor.decompress(data, size + 1)
    except zlib.error:
        content = b""
    if len(content) != size or not decompressor.eof:
        raise InconsistentGeometry(
            "the corrected mask does not have the scan's size",
            "Send one byte per pixel (slices x rows x columns), compressed with gzip.",
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape) != 0


def _is_possible(scan: Scan, name: str) -> bool:
    try:
        outputs.check_formats(scan, [name])
    except UsageError:
        return False
    return True


def _write_manifest(folder: Path, document: ResultDocument | ChangeDocument) -> int:
    """Write the list of a folder's files with their checksums; return their size in bytes."""
    formats = {name: output_format for output_format, name in document.files.items()}
    items = []
    for path in sorted(path for path in folder.iterdir() if path.is_file() and path.name != LABELS):
        data = path.read_bytes()
        items.append(
            ResultFile(
                name=path.name,
                bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                media_type=_get_media_type(path),
                format=formats.get(path.name, path.stem),
            )
        )
    (folder / MANIFEST).write_text(ResultFiles(items=items).model_dump_json(), "utf-8")
    return sum(item.bytes for item in items)


def _get_media_type(path: Path) -> str:
    return _MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _seconds_since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
