"""The steps of a study, as a child process does them: each reads folders and writes one.

Nothing here touches the database or the storage: what a step made counts only once its parent has stored it.
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

from strokeseg import outputs, pipeline, segmentation
from strokeseg.errors import InconsistentGeometry, UsageError
from strokeseg.followup import comparison
from strokeseg.followup.document import ChangeDocument
from strokeseg.imaging import components
from strokeseg.measurements import measure as measured_by_hand
from strokeseg.result import Findings, Remark, ResultDocument, Timing
from strokeseg.scan import Scan
from strokeseg.web import intermediates
from strokeseg.web.schemas import ResultFile, ResultFiles

ReportProgress = Callable[[int, int], None]
MANIFEST, LABELS = "files.json", "labels.bin"
"""Beside the files of a result: what they are, and the number of each pixel's lesion, compressed."""
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
    "read.dicom",
    "read.pixels",
    "read.pictures",
    "measure.findings",
    "write.report",
    "write.gallery",
    "write.dicom",
)
"""What the package imports only when it is needed."""


def preload(model: str, _report: ReportProgress) -> None:
    """Load what every study needs, before the first one comes."""
    for name in _LAZY_MODULES:
        importlib.import_module(f"strokeseg.{name}")
    segmentation.load_engine(model)


def read(upload: str, out: str, options: dict[str, Any], _report: ReportProgress) -> int:
    """Read an upload; gives the number of slices. Raises InputError."""
    start = time.perf_counter()
    window, spacing = (None if options[name] is None else tuple(options[name]) for name in ("window", "spacing_mm"))
    scan = pipeline.read_scan(Path(upload), window=window, spacing_mm=spacing, series=options["series"])
    intermediates.save_scan(Path(out), scan, _seconds_since(start))
    return len(scan.hu)


def segment(scan_folder: str, out: str, model: str, threads: int, report: ReportProgress) -> None:
    """Ask the network. Raises ModelError."""
    scan, _ = intermediates.load_scan(Path(scan_folder))
    start = time.perf_counter()
    answered = pipeline.predict(scan, model=model, threads=threads, progress=report)
    intermediates.save_answer(Path(out), answered, _seconds_since(start))


def measure(scan_folder: str, answer_folder: str, out: str, _report: ReportProgress) -> dict[str, Any]:
    """Measure the machine's answer; gives what the list of studies shows."""
    scan, read_s = intermediates.load_scan(Path(scan_folder))
    answered, infer_s = intermediates.load_answer(Path(answer_folder))
    result = pipeline.measure_prediction(scan, answered, Timing(read=read_s, infer=infer_s))
    intermediates.save_findings(Path(out), result)
    intermediates.save_thumbnail(Path(out), scan, result.mask)
    return summarize(result.findings)


def measure_edit(
    scan_folder: str, answer_folder: str, edited: str, out: str, version: int, _report: ReportProgress
) -> dict[str, Any]:
    """Measure what a person drew; the network's confidence and interval are no longer of this answer."""
    scan, read_s = intermediates.load_scan(Path(scan_folder))
    answered, infer_s = intermediates.load_answer(Path(answer_folder))
    mask = decode_mask(Path(edited).read_bytes(), scan.shape)
    start = time.perf_counter()
    message = f"The outline was corrected by a person; this is version {version}. The network's answer is version 0."
    remark = Remark(code="corrected", severity="info", message=message)
    findings = measured_by_hand(scan, mask)
    timing = Timing(read=read_s, infer=infer_s, measure=_seconds_since(start))
    result = pipeline.Result(
        scan.with_remarks(remark), answered.output.probability, mask, findings, answered.model, timing
    )
    intermediates.save_findings(Path(out), result)
    intermediates.save_thumbnail(Path(out), scan, mask)
    return summarize(findings)


def write_files(
    scan_folder: str, answer_folder: str, found: str, out: str, formats: tuple[str, ...], _report: ReportProgress
) -> int:
    """Write every file of a result that this scan can give, and the list of them; gives their bytes."""
    result = intermediates.load_result(Path(scan_folder), Path(answer_folder), Path(found))
    folder = Path(out)
    document = result.save(folder, [name for name in formats if _is_possible(result.scan, name)])
    labels, _ = components.label(result.mask, result.scan)
    packed = gzip.compress(np.minimum(labels, 255).astype(np.uint8).tobytes(), 6, mtime=0)
    (folder / LABELS).write_bytes(packed)
    return _write_manifest(folder, document)


def compare(earlier: tuple[str, str, str], later: tuple[str, str, str], out: str, _report: ReportProgress) -> None:
    """Lay two results on each other. Raises DifferentPatients, InconsistentGeometry."""
    before, after = (intermediates.load_result(*(Path(part) for part in side)) for side in (earlier, later))
    document = comparison.compare(before, after).save(out)
    _write_manifest(Path(out), document)


def summarize(findings: Findings) -> dict[str, Any]:
    """Return what the list of studies shows of an answer."""
    return findings.model_dump(include={"hemorrhage", "confidence", "volume_ml", "volume_interval_ml"}, mode="json")


def decode_mask(data: bytes, shape: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Read a drawn mask: bytes, not 0 where there is blood, gzip'd; never more of them than the scan has pixels.

    Raises
    ------
    InconsistentGeometry
        `geometry`, if it is damaged or of another size.
    """
    size = int(np.prod(shape))
    packer = zlib.decompressobj(31)
    try:
        plain = packer.decompress(data, size + 1)
    except zlib.error:
        plain = b""
    if len(plain) != size or not packer.eof:
        raise InconsistentGeometry(
            "the drawn mask is not of this scan's size",
            "Send gzip'd bytes, one a pixel: slices x rows x columns.",
        )
    return np.frombuffer(plain, dtype=np.uint8).reshape(shape) != 0


def _is_possible(scan: Scan, name: str) -> bool:
    try:
        outputs.check_formats(scan, [name])
    except UsageError:
        return False
    return True


def _write_manifest(folder: Path, document: ResultDocument | ChangeDocument) -> int:
    """Write which files a folder holds, with their checksums; gives their bytes."""
    kinds = {name: kind for kind, name in document.files.items()}
    items = []
    for path in sorted(path for path in folder.iterdir() if path.is_file() and path.name != LABELS):
        data = path.read_bytes()
        kind = _MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        known = kinds.get(path.name, path.stem)
        digest = hashlib.sha256(data).hexdigest()
        items.append(ResultFile(name=path.name, bytes=len(data), sha256=digest, media_type=kind, format=known))
    (folder / MANIFEST).write_text(ResultFiles(items=items).model_dump_json(), "utf-8")
    return sum(item.bytes for item in items)


def _seconds_since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
