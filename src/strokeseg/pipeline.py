"""The complete path of a scan: read, segment, measure, build surfaces, write.

The module is longer than others because the public :class:`Result` belongs to it: half of the lines are docstrings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from strokeseg import outputs, segmentation
from strokeseg.errors import UsageError
from strokeseg.imaging import components
from strokeseg.imaging.components import Labels
from strokeseg.measurements.findings import compute_findings
from strokeseg.reading import deidentification, read_one
from strokeseg.result import Findings, InputInfo, Lesion, ModelInfo, Remark, ResultDocument, Timing
from strokeseg.scan import Scan
from strokeseg.scene import Scene
from strokeseg.segmentation import Progress
from strokeseg.segmentation.decision_options import DecisionOptions
from strokeseg.segmentation.interval import volume_interval_ml
from strokeseg.segmentation.models import Card
from strokeseg.version import __version__

if TYPE_CHECKING:
    from ipyniivue import NiiVue
    from pandas import DataFrame

    from strokeseg.segmentation.lesion_review import ReviewedLesion


@dataclass(frozen=True, repr=False)
class Result:
    """The result for one scan.

    Attributes
    ----------
    scan : Scan
        The scan as read.
    probability : ndarray of float16, shape (slices, rows, columns)
        Probability of blood for each pixel.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.
    findings : Findings
        The measurements.
    model : ModelInfo
        The model that segmented the scan.
    timing : Timing
        Seconds of each step so far.
    """

    scan: Scan
    probability: NDArray[np.float16]
    mask: NDArray[np.bool_]
    findings: Findings
    model: ModelInfo
    timing: Timing

    def __repr__(self) -> str:
        """Summarize the result in one line; arrays are left out."""
        findings, (slices, rows, columns) = self.findings, self.scan.shape
        count = len(findings.lesions)
        summary = f"{count} lesion{'s' * (count != 1)}" if findings.hemorrhage else "no hemorrhage"
        if findings.hemorrhage and findings.volume_ml is not None:
            summary += f", {findings.volume_ml:.3f} ml"
        return f"<Result: {summary}; {slices} x {rows} x {columns} pixels; model {self.model.name}>"

    @cached_property
    def labels(self) -> Labels:
        """Lesion ids, shape (slices, rows, columns): 0 is background, 1 the largest lesion."""
        return components.label(self.mask, self.scan)[0]

    @property
    def remarks(self) -> list[Remark]:
        """The remarks on the input and the result."""
        return [*self.scan.remarks, *self.findings.remarks]

    @property
    def document(self) -> ResultDocument:
        """The result as in `result.json`, without files."""
        scan = self.scan
        is_repaired = any(remark.severity == "repaired" for remark in scan.remarks)
        return ResultDocument(
            software=f"strokeseg {__version__}",
            status="repaired" if is_repaired else "accepted",
            remarks=self.remarks,
            input=describe_input(scan),
            model=self.model,
            findings=self.findings,
            timing_s=self.timing,
        )

    def save(
        self,
        out: str | Path,
        formats: Sequence[str] = outputs.DEFAULT_FORMATS,
        *,
        native: bool = False,
        skull: bool = False,
    ) -> ResultDocument:
        """Write the result into a folder, all files or none; the folder is created if missing.

        Parameters
        ----------
        out : str or Path
            The folder.
        formats : sequence of str, optional
            Some of "json" (always written), "nifti", "mesh", "report", "keys", "nrrd", "montage", "planes", "views",
            "turn", "pdf"; for a DICOM series also "seg", "seg-labelmap", "seg-probability", "sr", "capture",
            "pdf-dicom"; for a scan of known scale also "stl", "ply", "obj" (docs/outputs.md).
        native : bool, default: False
            Also write CT and mask as NIfTI on the planes as acquired.
        skull : bool, default: False
            Also include the skull in the files of the 3D scene.

        Returns
        -------
        ResultDocument
            The document as written, with its files and timing.

        Raises
        ------
        UsageError
            `usage`, for an unknown format, a DICOM format without a DICOM series, or a format in mm without a scale.
        NotWritable, DiskFull
            `not-writable`, `disk-full`.
        """
        from strokeseg import surfaces

        outputs.check(out, formats)
        start, timing = time.perf_counter(), self.timing
        labels = self.labels
        surface_s = 0.0

        def make_scene() -> tuple[Scene, list[Remark]]:
            nonlocal surface_s
            start_s = time.thread_time()
            scene = surfaces.build_scene(self.scan, labels, skull=skull)
            remarks = surfaces.remark_not_printable(scene) if outputs.SOLID_FORMATS & set(formats) else []
            surface_s = round(time.thread_time() - start_s, 3)
            return scene, remarks

        def finish_timing() -> Timing:
            # The surfaces are built while files are written: they count with the CPU time of their thread.
            durations = {"surface": surface_s, "write": round(max(0.0, _elapsed_s(start) - surface_s), 3)}
            steps = (timing.read, timing.infer, timing.measure, *durations.values())
            return timing.model_copy(update={**durations, "total": round(sum(steps), 3)})

        return outputs.save(
            out,
            self.document,
            self.scan,
            self.mask,
            labels,
            make_scene if outputs.MESH_FORMATS & set(formats) else None,
            formats,
            finish_timing,
            probability=self.probability,
            native=native,
        )

    def _repr_html_(self) -> str:
        """Return the summary that a notebook shows."""
        from strokeseg.outputs import notebook

        return notebook.render_html(self.document, self.scan, self.mask, self.labels)

    def to_frame(self) -> DataFrame:
        """Return the lesions as a pandas table; see :func:`strokeseg.outputs.notebook.make_frame`."""
        from strokeseg.outputs import notebook

        return notebook.make_frame(self.document)

    def view(self) -> NiiVue:
        """Open scan and lesions in a notebook widget; see :func:`strokeseg.outputs.notebook.open_viewer`."""
        from strokeseg.outputs import notebook

        return notebook.open_viewer(self.scan, self.labels)


def segment(
    source: str | Path | Scan,
    *,
    model: str = "default",
    engine: str = "auto",
    threads: int = 0,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    order: str = "auto",
    series: str | None = None,
    flip: bool = False,
    operating_point: str = "balanced",
    threshold: float | None = None,
    smallest_ml: float | None = None,
    deidentify: bytes | None = None,
    formats: Sequence[str] = (),
    experimental: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Segment and measure the intracranial hemorrhage in a head CT.

    Parameters
    ----------
    source : str or Path or Scan
        A DICOM folder, zip or file; a volume (NIfTI, NRRD, MetaImage); a picture or a folder of pictures; or a
        :class:`Scan`.
    model : str, default: "default"
        Name of an installed model.
    engine : str, default: "auto"
        "auto", or the name of an engine (docs/engines.md).
    threads : int, default: 0
        Number of threads; 0 uses all cores.
    window : tuple of (float, float), optional
        (centre, width) of pictures; estimated by default.
    spacing_mm : tuple of (float, float, float), optional
        (slice, row, column) of pictures, mm; without it, nothing in mm or ml is measured.
    order : {"auto", "lowest-first", "highest-first"}, default: "auto"
        Direction of a stack of pictures, as in :func:`read`; found from the anatomy by default.
    series : str, optional
        Series instance UID, or its beginning, if there are several series.
    flip : bool, default: False
        Also segment every slice mirrored, and average; doubles the time.
    operating_point : {"sensitive", "balanced", "specific"}, default: "balanced"
        Choice between missed hemorrhages and false alarms; the model's card states what each was measured to do.
    threshold : float, optional
        Probability threshold of the outlines, in place of the model's.
    smallest_ml : float, optional
        Leave out smaller lesions, ml.
    deidentify : bytes, optional
        A secret key of 16 bytes or more; all UIDs are then replaced by UIDs derived with this key.
    formats : sequence of str, default: ()
        Formats to be saved later; if this scan cannot have one, it is refused before segmentation.
    experimental : bool, default: False
        Also determine the CT signs of growth and the types of hemorrhage, which are not validated.
    progress : callable, optional
        Called with (completed slices, all slices).

    Returns
    -------
    Result
        Mask, probability map and measurements.

    Raises
    ------
    InputError
        If the scan is refused; its code gives the reason.
    ModelError
        If the model cannot be used.
    """
    start = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        # Loading a network takes about as long as reading a scan. Errors of the network are raised by predict().
        loading = pool.submit(segmentation.load_engine, model, engine, threads)
        scan = read_scan(
            source,
            window=window,
            spacing_mm=spacing_mm,
            order=order,
            series=series,
            deidentify=deidentify,
            formats=formats,
        )
        loading.exception()
    read_s = _elapsed_s(start)
    start = time.perf_counter()
    prediction = predict(
        scan,
        model=model,
        engine=engine,
        threads=threads,
        flip=flip,
        operating_point=operating_point,
        threshold=threshold,
        smallest_ml=smallest_ml,
        progress=progress,
    )
    timing = Timing(read=read_s, infer=_elapsed_s(start))
    return measure_prediction(scan, prediction, timing, experimental=experimental)


def read_scan(
    source: str | Path | Scan,
    *,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    order: str = "auto",
    series: str | None = None,
    deidentify: bytes | None = None,
    formats: Sequence[str] = (),
) -> Scan:
    """Read a scan: the first step of :func:`segment`, with the same parameters and errors."""
    from strokeseg.reading import gate

    if isinstance(source, Scan):
        if not (window is None and spacing_mm is None and series is None and order == "auto"):
            raise UsageError(
                "window, spacing_mm, order and series apply to files only; a Scan has its own", "Leave them out."
            )
        scan = gate.check_scan(source)
    else:
        scan = read_one(source, series=series, window=window, spacing_mm=spacing_mm, order=order)
    if deidentify is not None:
        scan = deidentification.deidentify(scan, deidentify)
    outputs.check_formats(scan, formats)
    return scan


@dataclass(frozen=True)
class Prediction:
    """The output of a model for one scan.

    Attributes
    ----------
    output : strokeseg.segmentation.Prediction
        Probability map and mask.
    card : Card
        Card of the model.
    model : ModelInfo
        The model as in `result.json`.
    """

    output: segmentation.Prediction
    card: Card
    model: ModelInfo


def predict(
    scan: Scan,
    *,
    model: str = "default",
    engine: str = "auto",
    threads: int = 0,
    flip: bool = False,
    operating_point: str = "balanced",
    threshold: float | None = None,
    smallest_ml: float | None = None,
    progress: Progress | None = None,
) -> Prediction:
    """Run the model: the second step of :func:`segment`, with the same parameters and errors."""
    loaded_engine = segmentation.load_engine(model, engine, threads)
    card = loaded_engine.card
    options = DecisionOptions(operating_point, threshold, smallest_ml)
    info = ModelInfo(
        name=card.name,
        version=card.version,
        sha256=card.sha256,
        engine=loaded_engine.name,
        precision=loaded_engine.precision,
        threshold=card.threshold if threshold is None else threshold,
        operating_point=operating_point,
    )
    output = segmentation.predict(scan, loaded_engine, flip=flip, options=options, progress=progress)
    return Prediction(output, card, info)


def measure_prediction(scan: Scan, prediction: Prediction, timing: Timing, *, experimental: bool = False) -> Result:
    """Measure a prediction: the last step of :func:`segment`.

    Parameters
    ----------
    scan : Scan
        From :func:`read_scan`.
    prediction : Prediction
        From :func:`predict`.
    timing : Timing
        Seconds of the steps so far.
    experimental : bool, default: False
        As in :func:`segment`.

    Returns
    -------
    Result
        Mask, probability map and measurements.
    """
    start = time.perf_counter()
    output = prediction.output
    labels, _ = components.label(output.mask, scan)
    findings = compute_findings(scan, output.mask, output.probability, output.dropped_specks, experimental, labels)
    findings, interval_remarks = _add_confidence(findings, output, scan, prediction.card)
    scan = scan.with_remarks(*output.remarks, *interval_remarks)
    timing = timing.model_copy(update={"measure": _elapsed_s(start)})
    timing = timing.model_copy(update={"total": round(timing.read + timing.infer + timing.measure, 3)})
    result = Result(scan, output.probability, output.mask, findings, prediction.model, timing)
    vars(result)["labels"] = labels  # fills the cache of the property
    return result


def describe_input(scan: Scan) -> InputInfo:
    """Describe the geometry of a scan as in `result.json`, without patient data."""
    weights = scan.weights_mm
    return InputInfo(
        kind=scan.kind,
        series_uid=scan.series_uid,
        slices=scan.shape[0],
        rows=scan.shape[1],
        columns=scan.shape[2],
        pixel_spacing_mm=scan.pixel_spacing_mm,
        slice_weights_mm=None if weights is None else [round(float(weight), 4) for weight in weights],
        tilt_deg=round(scan.planes.tilt_deg, 2),
        calibrated=scan.calibrated,
        window=scan.window,
    )


def make_predictor(
    model: str = "default",
    *,
    engine: str = "auto",
    threads: int = 0,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    order: str = "auto",
    flip: bool = False,
    operating_point: str = "balanced",
    threshold: float | None = None,
    smallest_ml: float | None = None,
) -> Callable[[Path], segmentation.Prediction]:
    """Make the function that `evaluate` scores: from the path of an image to its probability map and mask.

    Both have shape (slices, rows, columns) on the grid of the image, as in :func:`segment`, which has the same
    parameters. Errors of the model are raised here, errors of an image by the function.
    """
    loaded_engine = segmentation.load_engine(model, engine, threads)
    options = DecisionOptions(operating_point, threshold, smallest_ml)
    options.find_decision(loaded_engine.card)

    def predict_file(path: Path) -> segmentation.Prediction:
        scan = read_one(path, window=window, spacing_mm=spacing_mm, order=order)
        return segmentation.predict(scan, loaded_engine, flip=flip, options=options)

    return predict_file


def _add_confidence(
    findings: Findings, output: segmentation.Prediction, scan: Scan, card: Card
) -> tuple[Findings, list[Remark]]:
    """Add confidence and volume interval to the findings; both are None if the model is not calibrated."""
    calibration = card.calibration.volume if card.calibration else None
    interval = volume_interval_ml(findings.volume_ml, output.probability, output.mask, scan, calibration, scan.remarks)
    findings = findings.model_copy(
        update={
            "confidence": output.confidence,
            "volume_interval_ml": None if interval is None else (interval.low_ml, interval.high_ml),
            "interval_level": None if interval is None else interval.level,
            "lesions": _add_reviews(findings.lesions, output.reviewed),
        }
    )
    if interval is None or not interval.widened_by:
        return findings, []
    message = f"The volume interval is wider than usual because of {', '.join(interval.widened_by)}."
    return findings, [Remark(code="interval-widened", severity="info", message=message)]


def _add_reviews(lesions: list[Lesion], reviewed: Sequence[ReviewedLesion]) -> list[Lesion]:
    """Add the second look to each lesion; both are in the order of size."""
    if not reviewed:  # the model has no second look, or the scan has too few slices for it
        return lesions
    return [
        lesion.model_copy(
            update={
                "blood_probability": round(review.probability, 3),
                "reasons_for": list(review.reasons_for),
                "reasons_against": list(review.reasons_against),
            }
        )
        for lesion, review in zip(lesions, reviewed, strict=True)
    ]


def _elapsed_s(start: float) -> float:
    return round(time.perf_counter() - start, 3)
