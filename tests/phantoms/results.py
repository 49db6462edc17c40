"""Scans, masks, scenes and result documents with known content."""

from __future__ import annotations

import json
import re

import numpy as np
import trimesh

from strokeseg.outputs.images import slice_stack
from strokeseg.outputs.images.result_images import ResultImages
from strokeseg.outputs.report import texts
from strokeseg.result import (
    Findings,
    IchScoreParts,
    InputInfo,
    Lesion,
    Midline,
    ModelInfo,
    Remark,
    ResultDocument,
    Timing,
)
from strokeseg.scan import Planes, Scan
from strokeseg.scene import Mesh, Scene

TIMING = Timing(read=0.5, infer=1.5, write=0.25, total=2.25)


def make_planes(
    count, step_lps_mm, row_cosine=(1, 0, 0), column_cosine=(0, 1, 0), spacing_mm=(0.5, 0.5), at=(-60, -70, 20)
):
    """Make evenly spaced planes; ``step_lps_mm`` need not be along the normal."""
    positions = np.asarray(at, float) + np.arange(count)[:, None] * np.asarray(step_lps_mm, float)
    return Planes(positions, np.asarray(row_cosine, float), np.asarray(column_cosine, float), spacing_mm, None)


def make_scan(where, rows=64, columns=72, **fields):
    rng = np.random.default_rng(7)
    hu = rng.integers(-1000, 1500, (len(where.positions_mm), rows, columns)).astype(np.int16)
    return Scan(hu, where, **fields)


def mark_ball(scan, centre_lps_mm, radius_mm):
    """Mark the pixels with their centre in a ball, with positions computed here, not by `to_lps_mm`."""
    where, (count, rows, columns) = scan.planes, scan.shape
    down = np.arange(rows)[:, None, None] * where.pixel_spacing_mm[0] * where.column_cosine
    across = np.arange(columns)[None, :, None] * where.pixel_spacing_mm[1] * where.row_cosine
    mask = np.zeros(scan.shape, dtype=bool)
    for k in range(count):
        mask[k] = np.linalg.norm(where.positions_mm[k] + down + across - centre_lps_mm, axis=2) < radius_mm
    return mask


def make_sphere(centre_lps_mm, radius_mm):
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=radius_mm)
    vertices_mm = (sphere.vertices + np.asarray(centre_lps_mm)).astype(np.float32)
    return Mesh(vertices_mm, np.asarray(sphere.faces, dtype=np.int32))


def make_scene(to_scale=True):
    """Make a brain of 70 mm at (10, 20, 30) LPS with a lesion 40 mm to the left, 20 mm to the front and 10 mm above."""
    return Scene(make_sphere((10, 20, 30), 70), (make_sphere((50, 0, 40), 12), make_sphere((0, 30, 20), 5)), to_scale)


def make_lesion(number, first, last, **fields):
    known = {
        "pixels": 120,
        "probability": 0.81,
        "volume_ml": 12.34,
        "abc2_ml": 13.1,
        "max_diameter_mm": 31.4,
        "mean_hu": 62.0,
    }
    return Lesion(id=number, slices=(first, last), **(known | fields))


def make_document(scan, lesions=(), **fields):
    weights = scan.weights_mm
    info = InputInfo(
        kind=scan.kind,
        series_uid=scan.series_uid,
        slices=scan.shape[0],
        rows=scan.shape[1],
        columns=scan.shape[2],
        pixel_spacing_mm=scan.pixel_spacing_mm,
        slice_weights_mm=None if weights is None else [float(weight) for weight in weights],
        tilt_deg=scan.planes.tilt_deg,
        calibrated=scan.calibrated,
        window=scan.window,
    )
    volumes = [one.volume_ml for one in lesions]
    findings = Findings(
        hemorrhage=bool(lesions),
        confidence=0.81 if lesions else None,
        volume_ml=None if None in volumes else sum(volumes),
        lesions=list(lesions),
    )
    model = ModelInfo(
        name="default", version="1.2", sha256="5ca1ab1e" * 8, engine="onnxruntime", precision="float32", threshold=0.42
    )
    document = ResultDocument(
        software="strokeseg 0.1.0",
        status="accepted",
        remarks=[Remark(code="gantry-tilt", severity="info", message="The gantry is tilted by 12 degrees.")],
        input=info,
        model=model,
        findings=findings,
        timing_s=Timing(read=0.5, infer=1.5),
    )
    return document.model_copy(update=fields)


NO_FINDINGS = Findings(hemorrhage=False, confidence=None, volume_ml=None)


def make_report_images(scan, labels, document=None, meshes=None):
    """The pictures of a result; ``labels`` may be a mask of one lesion, ``document`` is its document."""
    labels = np.asarray(labels, np.int32)
    return ResultImages(scan, labels > 0, labels, document.findings if document else NO_FINDINGS, meshes)


def _make_complete():
    """Make a scan with two lesions and every entry of the findings filled in."""
    scan = make_scan(make_planes(12, (0, 0, 5)), 48, 48)
    labels = np.zeros(scan.shape, dtype=np.int32)
    labels[3:8, 10:20, 10:20], labels[9, 30:34, 30:34] = 1, 2
    first = {"side": "left", "place": "deep", "tentorium": "supratentorial", "intraventricular_ml": 1.27}
    first |= {"sphericity": 0.613, "std_hu": 7.3, "type_probabilities": {"subdural": 0.71, "epidural": 0.29}}
    document = make_document(
        scan, [make_lesion(1, 3, 7, **first), make_lesion(2, 9, 9, volume_ml=0.213, abc2_ml=0.2, probability=0.67)]
    )
    measured = {"volume_interval_ml": (9.87, 15.21), "interval_level": 0.9, "confidence": 0.987, "side": "left"}
    measured |= {"midline_shift_mm": 3.46, "midline_shift_side": "right", "dropped_specks": 7}
    measured |= {"intraventricular": True, "intraventricular_ml": 1.27, "ventricular_share": 0.058}
    score = IchScoreParts(volume_30_ml_or_more=False, intraventricular=True, infratentorial=None)
    points = {"front_lps_mm": (-50, -65, 40), "back_lps_mm": (-50, -50, 40), "septum_lps_mm": (-48, -58, 40)}
    findings = document.findings.model_copy(
        update=measured | {"ich_score_parts": score, "midline": Midline(slice=4, **points)}
    )
    return scan, labels, document.model_copy(update={"findings": findings})


def _make_many_lesions():
    """Make twelve lesions more than a page's table holds, long remarks, and letters of many scripts."""
    scan = make_scan(make_planes(30, (0, 0, 3)), 48, 48)
    labels = np.zeros(scan.shape, dtype=np.int32)
    for number in range(1, 25):
        labels[number, number : number + 3, number : number + 4] = number
    long = "The slices of this series are not evenly spaced, and a very long sentence says so. " * 12
    remarks = [Remark(code=f"long-{n}", severity="info", message=long, slices=list(range(20))) for n in range(9)]
    remarks.append(
        Remark(code="names", severity="warning", message="頭部 CT が「Zürich, Łódź」 & <b>두부</b> 出血.png")
    )
    return (
        scan,
        labels,
        make_document(scan, [make_lesion(n, n, n, volume_ml=9.5 / n) for n in range(1, 25)], remarks=remarks),
    )


def _make_negative():
    scan = make_scan(make_planes(12, (0, 0, 5)), 48, 48)
    return scan, np.zeros(scan.shape, dtype=np.int32), make_document(scan)


def _make_uncalibrated():
    scan = Scan.from_array(np.tile(np.arange(40) * 2, (3, 40, 1)), calibrated=False, kind="pictures")
    labels = np.zeros(scan.shape, dtype=np.int32)
    labels[1, 5:9, 5:9] = 1
    nothing = {"volume_ml": None, "abc2_ml": None, "max_diameter_mm": None, "mean_hu": None}
    return scan, labels, make_document(scan, [make_lesion(1, 1, 1, **nothing)])


RESULTS = {"whole": _make_complete, "many": _make_many_lesions, "none": _make_negative, "pictures": _make_uncalibrated}
"""Scan, labels and document of each kind of result."""


def list_known_numbers(document):
    """List every number of `result.json`: as it is, as a percentage, as a slice number from 1; and those in texts."""
    numbers = []

    def walk(value):
        if isinstance(value, bool) or value is None:
            return
        if isinstance(value, dict):
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            numbers.append(len(value))
            for one in value:
                walk(one)
        elif isinstance(value, str):
            numbers.extend(float(text) for text in re.findall(r"\d+(?:\.\d+)?", value))
        else:
            numbers.extend((float(value), 100 * value, value + 1))

    walk(json.loads(document.model_dump_json()))
    return numbers


def find_unknown_numbers(text, document):
    """Find the numbers of a text that are neither rounded numbers of `result.json` nor part of the fixed texts."""
    ours = {number for words in texts.load_texts().entries.values() for number in re.findall(r"\d+(?:\.\d+)?", words)}
    ours |= {f"{value:g}" for window in slice_stack.VIEWER_WINDOWS.values() for value in window}
    known = list_known_numbers(document)
    lesions = document.findings.lesions
    shown = {index for one in lesions for index in range(one.slices[0], one.slices[1] + 1)}
    known += [len(shown), *(index + 1 for index in shown)]  # slices within a lesion's first and last
    known += range(1, document.input.slices + 1) if not lesions else []
    unknown = []
    for word in re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?![\w.]*\w)", text):
        plain = word.replace(",", "")
        digits = len(plain.partition(".")[2].partition("e")[0])
        near = 0.5 * 10.0**-digits + 1e-9
        if plain not in ours and not any(abs(float(plain) - number) <= near for number in known):
            unknown.append(word)
    return unknown
