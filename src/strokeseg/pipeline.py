"""The one place that knows the whole way of a scan: read, infer, measure, surface, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strokeseg import infer, surface, write
from strokeseg.errors import UsageError
from strokeseg.infer import Progress
from strokeseg.measure import measure
from strokeseg.measure.lesions import label
from strokeseg.read import gate, read_one
from strokeseg.result import Findings, InputInfo, ModelInfo, Remark, ResultDocument, Timing
from strokeseg.scan import Scan
from strokeseg.version import __version__


@dataclass(frozen=True)
class Result:
    """What was found in one scan.

    Parameters
    ----------
    scan : the scan as it was read
    probability : float16, (slices, rows, columns)
    mask : bool, the same shape
    findings : the numbers
    model : the network that answered
    timing : seconds of each step so far
    """

    scan: Scan
    probability: NDArray[np.float16]
    mask: NDArray[np.bool_]
    findings: Findings
    model: ModelInfo
    timing: Timing

    @property
    def remarks(self) -> list[Remark]:
        """What the reader must know of the input and the answer."""
        return [*self.scan.remarks, *_not_measured(self.scan, self.findings)]

    @property
    def document(self) -> ResultDocument:
        """The result as `result.json` holds it, without files."""
        scan = self.scan
        repaired = any(remark.severity == "repaired" for remark in scan.remarks)
        return ResultDocument(
            software=f"strokeseg {__version__}",
            status="repaired" if repaired else "accepted",
            remarks=self.remarks,
            input=input_info(scan),
            model=self.model,
            findings=self.findings,
            timing_s=self.timing,
        )

    def save(self, out: str | Path, formats: Sequence[str] = write.FORMATS) -> ResultDocument:
        """Write the result into a folder, which is made if missing; each file appears whole or not at all.

        Parameters
        ----------
        out : folder
        formats : of "json" (always written), "nifti", "mesh", "report", "keys"

        Returns
        -------
        The document as written, with its files and timing

        Raises
        ------
        UsageError
            `usage`, for an unknown format
        NotWritable, DiskFull
            `not-writable`, `disk-full`
        """
        write.check(out, formats)
        start = time.perf_counter()
        labels, _ = label(self.mask, self.scan)
        scene = surface.build(self.scan, labels) if {"mesh", "report"} & set(formats) else None
        timing = self.timing.model_copy(update={"surface": _since(start)})
        begun = time.perf_counter()

        def finish() -> Timing:
            spent = {"write": _since(begun)}
            steps = (timing.read, timing.infer, timing.measure, timing.surface, spent["write"])
            return timing.model_copy(update={**spent, "total": round(sum(steps), 3)})

        return write.save(out, self.document, self.scan, self.mask, labels, scene, formats, finish)


def segment(
    source: str | Path | Scan,
    *,
    model: str = "default",
    engine: str = "auto",
    threads: int = 0,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    series: str | None = None,
    flip: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Find the hemorrhage in a head CT.

    Parameters
    ----------
    source : DICOM folder, zip or file; NIfTI; a picture or a folder of pictures; or a :class:`Scan`
    model : name of an installed model
    engine : "auto" | "onnxruntime"
    threads : 0 is all cores
    window : (centre, width) of pictures; estimated where it is not given
    spacing_mm : (slice, row, column) of pictures, mm; without it nothing in mm or ml is measured
    series : the series instance UID, or its beginning, where there are several
    flip : answer every slice also mirrored; twice the time
    progress : is called with (slices done, slices in all)

    Raises
    ------
    InputError
        with the code that says why the scan is refused
    ModelError
        if the network cannot be used
    """
    start = time.perf_counter()
    if isinstance(source, Scan):
        if not (window is None and spacing_mm is None and series is None):
            raise UsageError("window, spacing_mm and series are for files: a Scan has its own", "Leave them out.")
        scan = gate.check(source)
    else:
        scan = read_one(source, series=series, window=window, spacing_mm=spacing_mm)
    read_s = _since(start)
    start = time.perf_counter()
    loaded = infer.load(model, engine, threads)
    answer = infer.answer(scan, loaded, flip=flip, progress=progress)
    infer_s = _since(start)
    start = time.perf_counter()
    findings = measure(scan, answer.mask, answer.probability, dropped_specks=answer.dropped_specks)
    timing = Timing(read=read_s, infer=infer_s, measure=_since(start))
    timing = timing.model_copy(update={"total": round(timing.read + timing.infer + timing.measure, 3)})
    card = loaded.card
    info = ModelInfo(
        name=card.name,
        version=card.version,
        sha256=card.sha256,
        engine=loaded.name,
        precision=card.precision,
        threshold=card.threshold,
    )
    return Result(scan, answer.probability, answer.mask, findings, info, timing)


def input_info(scan: Scan) -> InputInfo:
    """Give a scan's form as `result.json` holds it; nothing of the patient."""
    weights = scan.weights_mm
    return InputInfo(
        kind=scan.kind,
        series_uid=scan.series_uid,
        slices=scan.shape[0],
        rows=scan.shape[1],
        columns=scan.shape[2],
        pixel_spacing_mm=scan.pixel_spacing_mm,
        slice_weights_mm=None if weights is None else [round(float(w), 4) for w in weights],
        tilt_deg=round(scan.planes.tilt_deg, 2),
        calibrated=scan.calibrated,
        window=scan.window,
    )


def predictor(
    model: str = "default",
    *,
    engine: str = "auto",
    threads: int = 0,
    window: tuple[float, float] | None = None,
    flip: bool = False,
) -> Callable[[Path], NDArray[np.float16]]:
    """Give what `evaluate` scores: a function from an image's path to its probability map.

    The map is (slices, rows, columns) on the image's own grid, as :func:`segment` gives it. Parameters are those of
    :func:`segment`; its errors are raised here for the model, and by the function for an image.
    """
    loaded = infer.load(model, engine, threads)

    def predict(path: Path) -> NDArray[np.float16]:
        return infer.answer(read_one(path, window=window), loaded, flip=flip).probability

    return predict


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)


def _not_measured(scan: Scan, findings: Findings) -> list[Remark]:
    """Say why a number that the reader expects is null."""
    remarks = []
    if not scan.spacing_known:
        remarks.append(
            Remark(
                code="spacing-unknown",
                severity="warning",
                message="The pixel spacing is not known, so nothing is given in mm or ml; "
                "pass --spacing slice,row,column to have it.",
            )
        )
    elif scan.weights_mm is None:
        remarks.append(
            Remark(
                code="thickness-unknown",
                severity="warning",
                message="One slice of unknown thickness has no volume; lengths in its plane are given.",
            )
        )
    if findings.hemorrhage:
        remarks.append(
            Remark(
                code="not-measured",
                severity="info",
                message="This version does not measure the volume's interval, the side, the midline shift "
                "or ventricular blood.",
            )
        )
    return remarks
