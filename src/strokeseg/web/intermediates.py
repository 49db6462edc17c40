"""Files that the steps of a study pass on to each other: no pickles, so that loading one cannot run code.

The names of the files and of their JSON fields are part of stored studies and must not change.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict

from strokeseg import segmentation
from strokeseg.dicom_source import DicomSource
from strokeseg.pipeline import Prediction, Result
from strokeseg.result import Findings, ModelInfo, Remark, Timing
from strokeseg.scan import Planes, Scan
from strokeseg.scan_options import BRAIN_WINDOW
from strokeseg.segmentation import models
from strokeseg.segmentation.lesion_review import ReviewedLesion
from strokeseg.web.schemas import SliceGeometry

SCAN_FILES = ("scan.json", "slices.bin")
PAGE_FILES = ("slices.json", "thumbnail.png")
"""Files that :func:`save_scan` writes beside the scan, for the page only."""
ANSWER_FILES = ("answer.json", "answer.npz")
FINDINGS_FILES = ("findings.json", "mask.npz")
_THUMBNAIL_PX = 160
_GZIP = 31  # zlib's window size with a gzip header

Triple = tuple[float, float, float]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a new field of a dataclass must be added here, not be lost


class _StoredScan(_Stored):
    """`scan.json`: a Scan without its pixels. It may identify the patient, and is never sent to clients."""

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
    series_name: str | None = None
    sop_instance_uids: tuple[str, ...]
    window: tuple[float, float] | None
    remarks: tuple[Remark, ...]
    source: DicomSource | None
    read_s: float


class _StoredAnswer(_Stored):
    """`answer.json`: a Prediction without its arrays."""

    dropped_specks: int
    confidence: float | None
    remarks: tuple[Remark, ...]
    model: ModelInfo
    infer_s: float
    reviewed: tuple[ReviewedLesion, ...] = ()


class _StoredFindings(_Stored):
    """`findings.json`: what a Result adds to its scan and prediction, without the mask."""

    findings: Findings
    remarks: list[Remark]
    scan_remarks: tuple[Remark, ...]
    model: ModelInfo
    timing: Timing


def save_scan(folder: Path, scan: Scan, read_s: float) -> None:
    """Write a scan as :data:`SCAN_FILES` and :data:`PAGE_FILES`.

    Each slice is compressed separately, so that it can be sent as it is stored.

    Parameters
    ----------
    folder : Path
        The folder.
    scan : Scan
        The scan.
    read_s : float
        Seconds that reading it took.
    """
    compressed = [_gzip(np.ascontiguousarray(plane, dtype="<i2").tobytes()) for plane in scan.hu]
    offsets = np.cumsum([0, *(len(part) for part in compressed)]).tolist()
    (folder / "slices.bin").write_bytes(b"".join(compressed))
    stored = _StoredScan(
        shape=scan.shape,
        offsets=offsets,
        read_s=read_s,
        **{name: np.asarray(value).tolist() for name, value in _get_fields(scan.planes).items()},
        **{name: value for name, value in _get_fields(scan).items() if name not in ("hu", "planes")},
    )
    (folder / "scan.json").write_text(stored.model_dump_json(), "utf-8")
    geometry = {**_describe_slices(scan).model_dump(), "offsets": offsets}
    (folder / PAGE_FILES[0]).write_text(json.dumps(geometry), "utf-8")
    save_thumbnail(folder, scan, None)


def load_scan(folder: Path) -> tuple[Scan, float]:
    """Load what :func:`save_scan` wrote.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    scan : Scan
        The scan.
    read_s : float
        Seconds that reading it took.
    """
    stored = _StoredScan.model_validate_json((folder / "scan.json").read_bytes())
    data = (folder / "slices.bin").read_bytes()
    hu = np.empty(stored.shape, dtype=np.int16)
    for index, (start, stop) in enumerate(zip(stored.offsets[:-1], stored.offsets[1:], strict=True)):
        hu[index] = np.frombuffer(zlib.decompress(data[start:stop], _GZIP), dtype="<i2").reshape(stored.shape[1:])
    planes = Planes(
        np.array(stored.positions_mm, dtype=np.float64),
        np.array(stored.row_cosine),
        np.array(stored.column_cosine),
        stored.pixel_spacing_mm,
        stored.thickness_mm,
    )
    names = {field.name for field in dataclasses.fields(Scan)} - {"hu", "planes"}
    return Scan(hu, planes, **{name: getattr(stored, name) for name in names}), stored.read_s


def save_prediction(folder: Path, prediction: Prediction, infer_s: float) -> None:
    """Write a network's prediction as :data:`ANSWER_FILES`.

    Parameters
    ----------
    folder : Path
        The folder.
    prediction : Prediction
        The prediction.
    infer_s : float
        Seconds that it took.
    """
    output = prediction.output
    np.savez_compressed(folder / "answer.npz", probability=output.probability, mask=np.packbits(output.mask))
    fields = {name: value for name, value in _get_fields(output).items() if name not in ("probability", "mask")}
    stored = _StoredAnswer(**fields, model=prediction.model, infer_s=infer_s)
    (folder / "answer.json").write_text(stored.model_dump_json(), "utf-8")


def load_prediction(folder: Path) -> tuple[Prediction, float]:
    """Load what :func:`save_prediction` wrote.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    prediction : Prediction
        The prediction.
    infer_s : float
        Seconds that it took.

    Raises
    ------
    ModelError
        If the model has been uninstalled in the meantime.
    """
    stored = _StoredAnswer.model_validate_json((folder / "answer.json").read_bytes())
    with np.load(folder / "answer.npz", allow_pickle=False) as arrays:
        probability = arrays["probability"]
        mask = _unpack_mask(arrays["mask"], probability.shape)
    output = segmentation.Prediction(
        probability, mask, stored.dropped_specks, stored.confidence, stored.remarks, stored.reviewed
    )
    return Prediction(output, models.load_card(stored.model.name), stored.model), stored.infer_s


def save_findings(folder: Path, result: Result) -> None:
    """Write what a result adds to its scan and prediction as :data:`FINDINGS_FILES`."""
    np.savez_compressed(folder / "mask.npz", mask=np.packbits(result.mask))
    stored = _StoredFindings(
        findings=result.findings,
        remarks=result.findings.remarks,
        scan_remarks=result.scan.remarks,
        model=result.model,
        timing=result.timing,
    )
    (folder / "findings.json").write_text(stored.model_dump_json(), "utf-8")


def load_result(scan_folder: Path, answer_folder: Path, findings_folder: Path) -> Result:
    """Load a result from the folders of its scan, its prediction and its findings."""
    stored = _StoredFindings.model_validate_json((findings_folder / "findings.json").read_bytes())
    scan = dataclasses.replace(load_scan(scan_folder)[0], remarks=stored.scan_remarks)
    with np.load(answer_folder / "answer.npz", allow_pickle=False) as arrays:
        probability: NDArray[np.float16] = arrays["probability"]
    with np.load(findings_folder / "mask.npz", allow_pickle=False) as arrays:
        mask = _unpack_mask(arrays["mask"], probability.shape)
    findings = stored.findings.model_copy(update={"remarks": stored.remarks})
    return Result(scan, probability, mask, findings, stored.model, stored.timing)


def save_thumbnail(folder: Path, scan: Scan, mask: NDArray[np.bool_] | None) -> None:
    """Write a small image of the slice with the most blood, tinted, or else of the middle slice."""
    areas = None if mask is None else mask.sum((1, 2))
    index = len(scan.hu) // 2 if areas is None or not areas.any() else int(areas.argmax())
    centre, width = scan.window or BRAIN_WINDOW
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
        window=scan.window or BRAIN_WINDOW,
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
    """Return the letter of the patient's side that is closest to an LPS direction."""
    axis = int(np.abs(direction).argmax())
    return ("LR", "PA", "SI")[axis][0 if direction[axis] > 0 else 1]


def _get_fields(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, not copied."""
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


def _gzip(data: bytes) -> bytes:
    compressor = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    return compressor.compress(data) + compressor.flush()


def _unpack_mask(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
