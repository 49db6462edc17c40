"""What the steps of a study hand on to each other, as files: no pickles, so that reading one can run nothing."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import BaseModel

from strokeseg import segmentation
from strokeseg.pipeline import Prediction, Result
from strokeseg.result import Findings, ModelInfo, Remark, Timing
from strokeseg.scan import DicomSource, Planes, Scan
from strokeseg.segmentation import models
from strokeseg.web.schemas import SliceGeometry

SCAN_FILES = ("scan.json", "slices.bin")
PAGE_FILES = ("slices.json", "thumbnail.png")
"""What :func:`save_scan` writes beside the scan, for the page alone."""
ANSWER_FILES = ("answer.json", "answer.npz")
FINDINGS_FILES = ("findings.json", "mask.npz")
_BRAIN_WINDOW = (40.0, 80.0)
_THUMBNAIL_PX = 160
_GZIP = 31  # zlib's word for a gzip header

Triple = tuple[float, float, float]


class _StoredScan(BaseModel):
    """`scan.json`: all of a Scan but its pixels. It may hold who the patient is, and is never given out."""

    shape: tuple[int, int, int]
    offsets: list[int]
    positions_mm: list[Triple]
    row_cosine: Triple
    column_cosine: Triple
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None
    calibrated: bool
    spacing_known: bool
    kind: Literal["dicom", "nifti", "nrrd", "metaimage", "pictures", "array"]
    series_uid: str | None
    sop_instance_uids: tuple[str, ...]
    window: tuple[float, float] | None
    remarks: tuple[Remark, ...]
    source: DicomSource | None
    read_s: float


class _StoredAnswer(BaseModel):
    dropped_specks: int
    confidence: float | None
    remarks: tuple[Remark, ...]
    model: ModelInfo
    infer_s: float


class _StoredFindings(BaseModel):
    findings: Findings
    remarks: list[Remark]
    scan_remarks: tuple[Remark, ...]
    model: ModelInfo
    timing: Timing


def save_scan(folder: Path, scan: Scan, read_s: float) -> None:
    """Write a scan as :data:`SCAN`, and :data:`SHOWN`; each slice is packed by itself, to be sent as it lies."""
    packed = [_gzip(np.ascontiguousarray(plane, dtype="<i2").tobytes()) for plane in scan.hu]
    offsets = np.cumsum([0, *(len(part) for part in packed)]).tolist()
    (folder / "slices.bin").write_bytes(b"".join(packed))
    planes = scan.planes
    kept = _StoredScan(
        shape=scan.shape,
        offsets=offsets,
        positions_mm=planes.positions_mm.tolist(),
        row_cosine=_to_triple(planes.row_cosine),
        column_cosine=_to_triple(planes.column_cosine),
        pixel_spacing_mm=planes.pixel_spacing_mm,
        thickness_mm=planes.thickness_mm,
        calibrated=scan.calibrated,
        spacing_known=scan.spacing_known,
        kind=scan.kind,
        series_uid=scan.series_uid,
        sop_instance_uids=scan.sop_instance_uids,
        window=scan.window,
        remarks=scan.remarks,
        source=scan.source,
        read_s=read_s,
    )
    (folder / "scan.json").write_text(kept.model_dump_json(), "utf-8")
    (folder / PAGE_FILES[0]).write_text(
        json.dumps({**_describe_slices(scan).model_dump(), "offsets": offsets}), "utf-8"
    )
    save_thumbnail(folder, scan, None)


def load_scan(folder: Path) -> tuple[Scan, float]:
    """Read what :func:`save_scan` wrote, and the seconds that reading took."""
    kept = _StoredScan.model_validate_json((folder / "scan.json").read_bytes())
    data = (folder / "slices.bin").read_bytes()
    hu = np.empty(kept.shape, dtype=np.int16)
    for index, (start, stop) in enumerate(zip(kept.offsets[:-1], kept.offsets[1:], strict=True)):
        hu[index] = np.frombuffer(zlib.decompress(data[start:stop], _GZIP), dtype="<i2").reshape(kept.shape[1:])
    planes = Planes(
        np.array(kept.positions_mm, dtype=np.float64),
        np.array(kept.row_cosine),
        np.array(kept.column_cosine),
        kept.pixel_spacing_mm,
        kept.thickness_mm,
    )
    scan = Scan(
        hu,
        planes,
        kept.calibrated,
        kept.spacing_known,
        kept.kind,
        kept.series_uid,
        kept.sop_instance_uids,
        kept.window,
        kept.remarks,
        kept.source,
    )
    return scan, kept.read_s


def save_answer(folder: Path, answered: Prediction, infer_s: float) -> None:
    """Write a network's answer as :data:`ANSWER`."""
    answer = answered.output
    np.savez_compressed(folder / "answer.npz", probability=answer.probability, mask=np.packbits(answer.mask))
    kept = _StoredAnswer(
        dropped_specks=answer.dropped_specks,
        confidence=answer.confidence,
        remarks=answer.remarks,
        model=answered.model,
        infer_s=infer_s,
    )
    (folder / "answer.json").write_text(kept.model_dump_json(), "utf-8")


def load_answer(folder: Path) -> tuple[Prediction, float]:
    """Read what :func:`save_answer` wrote, and the seconds that the network took.

    Raises
    ------
    ModelError
        If the model has gone since.
    """
    kept = _StoredAnswer.model_validate_json((folder / "answer.json").read_bytes())
    with np.load(folder / "answer.npz", allow_pickle=False) as arrays:
        probability = arrays["probability"]
        mask = _unpack_mask(arrays["mask"], probability.shape)
    answer = segmentation.Prediction(probability, mask, kept.dropped_specks, kept.confidence, kept.remarks)
    return Prediction(answer, models.load_card(kept.model.name), kept.model), kept.infer_s


def save_findings(folder: Path, result: Result) -> None:
    """Write what a result adds to the scan and the answer as :data:`FINDINGS`."""
    np.savez_compressed(folder / "mask.npz", mask=np.packbits(result.mask))
    kept = _StoredFindings(
        findings=result.findings,
        remarks=result.findings.remarks,
        scan_remarks=result.scan.remarks,
        model=result.model,
        timing=result.timing,
    )
    (folder / "findings.json").write_text(kept.model_dump_json(), "utf-8")


def load_result(scan_folder: Path, answer_folder: Path, folder: Path) -> Result:
    """Put a result together again."""
    kept = _StoredFindings.model_validate_json((folder / "findings.json").read_bytes())
    scan, _ = load_scan(scan_folder)
    scan = Scan(**{**vars(scan), "remarks": kept.scan_remarks})
    with np.load(answer_folder / "answer.npz", allow_pickle=False) as arrays:
        probability: NDArray[np.float16] = arrays["probability"]
    with np.load(folder / "mask.npz", allow_pickle=False) as arrays:
        mask = _unpack_mask(arrays["mask"], probability.shape)
    findings = kept.findings.model_copy(update={"remarks": kept.remarks})
    return Result(scan, probability, mask, findings, kept.model, kept.timing)


def save_thumbnail(folder: Path, scan: Scan, mask: NDArray[np.bool_] | None) -> None:
    """Draw the middle slice, or where there is blood the slice with most of it, tinted."""
    areas = None if mask is None else mask.sum((1, 2))
    index = len(scan.hu) // 2 if areas is None or not areas.any() else int(areas.argmax())
    centre, width = scan.window or _BRAIN_WINDOW
    grey = np.clip((scan.hu[index].astype(np.float32) - centre + width / 2) / width * 255, 0, 255).astype(np.uint8)
    colours = np.repeat(grey[..., None], 3, axis=2)
    if mask is not None:
        colours[mask[index]] = (colours[mask[index]] // 2) + np.array([127, 20, 20], dtype=np.uint8)
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    upright = Image.fromarray(scan.planes.turn_upright(colours.transpose(2, 0, 1)).transpose(1, 2, 0).copy())
    size = (max(1, round(upright.width * column_mm)), max(1, round(upright.height * row_mm)))
    scale = _THUMBNAIL_PX / max(size)
    small = ImageOps.contain(
        upright.resize((max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))), (160, 160)
    )
    small.save(folder / PAGE_FILES[1])


def _describe_slices(scan: Scan) -> SliceGeometry:
    planes = scan.planes
    right, bottom = _name_direction(planes.row_cosine), _name_direction(planes.column_cosine)
    return SliceGeometry(
        slices=scan.shape[0],
        rows=scan.shape[1],
        columns=scan.shape[2],
        calibrated=scan.calibrated,
        window=scan.window or _BRAIN_WINDOW,
        pixel_spacing_mm=scan.pixel_spacing_mm,
        slice_positions_mm=planes.along_normal_mm.round(3).tolist() if scan.spacing_known else None,
        orientation={
            "right": right,
            "left": _name_direction(-planes.row_cosine),
            "top": _name_direction(-planes.column_cosine),
            "bottom": bottom,
        },
        upright={"flip_rows": bool(planes.column_cosine[1] < 0), "flip_columns": bool(planes.row_cosine[0] < 0)},
    )


def _name_direction(direction: Any) -> str:
    """Name the side of the patient that an LPS direction points to most."""
    axis = int(np.abs(direction).argmax())
    return ("LR", "PA", "SI")[axis][0 if direction[axis] > 0 else 1]


def _to_triple(values: Any) -> Triple:
    return (float(values[0]), float(values[1]), float(values[2]))


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()


def _unpack_mask(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
