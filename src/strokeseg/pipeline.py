"""The one place that knows the whole way of a scan: read, infer, measure, surface, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from strokeseg import outputs, segmentation
from strokeseg.errors import UsageError
from strokeseg.imaging import components
from strokeseg.measurements import measure
from strokeseg.reading import deidentification, read_one
from strokeseg.result import Findings, InputInfo, ModelInfo, Remark, ResultDocument, Timing
from strokeseg.scan import Scan
from strokeseg.scene import Scene
from strokeseg.segmentation import Progress
from strokeseg.segmentation.interval import volume_interval_ml
from strokeseg.segmentation.models import Card
from strokeseg.version import __version__

if TYPE_CHECKING:
    from ipyniivue import NiiVue
    from pandas import DataFrame


@dataclass(frozen=True)
class Result:
    """What was found in one scan.

    Parameters
    ----------
    scan : Scan
        The scan as it was read.
    probability : ndarray of float16, shape (slices, rows, columns)
        Probability.
    mask : ndarray of bool
        The same shape.
    findings : Findings
        The numbers.
    model : ModelInfo
        The network that answered.
    timing : Timing
        Seconds of each step so far.
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
        return [*self.scan.remarks, *self.findings.remarks]

    @property
    def document(self) -> ResultDocument:
        """The result as `result.json` holds it, without files."""
        scan = self.scan
        repaired = any(remark.severity == "repaired" for remark in scan.remarks)
        return ResultDocument(
            software=f"strokeseg {__version__}",
            status="repaired" if repaired else "accepted",
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
        """Write the result into a folder, which is made if missing; each file appears whole or not at all.

        Parameters
        ----------
        out : str or Path
            Folder.
        formats : sequence of str, default: outputs.DEFAULT_FORMATS
            Of "json" (always written), "nifti", "mesh", "report", "keys", and for a DICOM series also "seg",
            "seg-labelmap", "seg-probability", "sr", "capture", "pdf-dicom"; of "nrrd", "montage", "planes", "views",
            "turn", "pdf", and for a scan of known scale "stl", "ply", "obj" (docs/outputs.md).
        native : bool, default: False
            Also write CT and mask as NIfTI on the planes as acquired.
        skull : bool, default: False
            Also draw the skull, in the files of the 3D scene.

        Returns
        -------
        ResultDocument
            The document as written, with its files and timing.

        Raises
        ------
        UsageError
            `usage`, for an unknown format, a DICOM one where no DICOM series was read, or one in mm without a scale.
        NotWritable, DiskFull
            `not-writable`, `disk-full`.
        """
        from strokeseg import surfaces

        outputs.check(out, formats, self.scan)
        begun, timing = time.perf_counter(), self.timing
        labels, _ = components.label(self.mask, self.scan)
        surface_s = 0.0

        def scene() -> tuple[Scene, list[Remark]]:
            nonlocal surface_s
            start = time.thread_time()
            made = surfaces.build_scene(self.scan, labels, skull=skull)
            remarks = surfaces.remark_not_printable(made) if outputs.SOLID_FORMATS & set(formats) else []
            surface_s = round(time.thread_time() - start, 3)
            return made, remarks

        def finish() -> Timing:
            # Made beside the first files, the surfaces count with their thread's own time; writing has the rest.
            spent = {"surface": surface_s, "write": round(max(0.0, _elapsed_s(begun) - surface_s), 3)}
            steps = (timing.read, timing.infer, timing.measure, *spent.values())
            return timing.model_copy(update={**spent, "total": round(sum(steps), 3)})

        return outputs.save(
            out,
            self.document,
            self.scan,
            self.mask,
            labels,
            scene if outputs.MESH_FORMATS & set(formats) else None,
            formats,
            finish,
            probability=self.probability,
            native=native,
        )

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        from strokeseg.outputs import notebook

        labels, _ = components.label(self.mask, self.scan)
        return notebook.render_html(self.document, self.scan, self.mask, labels)

    def to_frame(self) -> DataFrame:
        """Return the lesions as rows of pandas; see :func:`strokeseg.outputs.notebook.make_frame`."""
        from strokeseg.outputs import notebook

        return notebook.make_frame(self.document)

    def view(self) -> NiiVue:
        """Open scan and lesions in a notebook's widget; see :func:`strokeseg.outputs.notebook.open_viewer`."""
        from strokeseg.outputs import notebook

        labels, _ = components.label(self.mask, self.scan)
        return notebook.open_viewer(self.scan, labels)


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
    deidentify: bytes | None = None,
    formats: Sequence[str] = (),
    experimental: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Find the hemorrhage in a head CT.

    Parameters
    ----------
    source : str or Path or Scan
        DICOM folder, zip or file; NIfTI; a picture or a folder of pictures; or a :class:`Scan`.
    model : str, default: "default"
        Name of an installed model.
    engine : str, default: "auto"
        "auto", or by name (docs/engines.md).
    threads : int, default: 0
        0 is all cores.
    window : tuple of (float, float), optional
        (centre, width) of pictures; estimated where it is not given.
    spacing_mm : tuple of (float, float, float), optional
        (slice, row, column) of pictures, mm; without it nothing in mm or ml is measured.
    series : str, optional
        The series instance UID, or its beginning, where there are several.
    flip : bool, default: False
        Answer every slice also mirrored; twice the time.
    deidentify : bytes, optional
        A secret key of 16 bytes or more; UIDs are then replaced by others that it alone leads to.
    formats : sequence of str, default: ()
        What will be saved; refused before the network answers where this scan cannot give it.
    experimental : bool, default: False
        Also give the CT signs of growth and the types of bleeding, which are not proven.
    progress : Progress, optional
        Is called with (slices done, slices in all).

    Raises
    ------
    InputError
        With the code that says why the scan is refused.
    ModelError
        If the network cannot be used.
    """
    start = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        # Loading a network takes about as long as reading a scan. What is wrong with it is told when it is asked.
        loading = pool.submit(segmentation.load_engine, model, engine, threads)
        scan = read_scan(
            source, window=window, spacing_mm=spacing_mm, series=series, deidentify=deidentify, formats=formats
        )
        loading.exception()
    read_s = _elapsed_s(start)
    start = time.perf_counter()
    answered = predict(scan, model=model, engine=engine, threads=threads, flip=flip, progress=progress)
    timing = Timing(read=read_s, infer=_elapsed_s(start))
    return measure_prediction(scan, answered, timing, experimental=experimental)


def read_scan(
    source: str | Path | Scan,
    *,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    series: str | None = None,
    deidentify: bytes | None = None,
    formats: Sequence[str] = (),
) -> Scan:
    """Read what is to be segmented: the first step of :func:`segment`, whose parameters and errors it has."""
    from strokeseg.reading import gate

    if isinstance(source, Scan):
        if not (window is None and spacing_mm is None and series is None):
            raise UsageError("window, spacing_mm and series are for files: a Scan has its own", "Leave them out.")
        scan = gate.check_scan(source)
    else:
        scan = read_one(source, series=series, window=window, spacing_mm=spacing_mm)
    if deidentify is not None:
        scan = deidentification.deidentify(scan, deidentify)
    outputs.check_formats(scan, formats)
    return scan


@dataclass(frozen=True)
class Prediction:
    """The network's answer, and which network gave it."""

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
    progress: Progress | None = None,
) -> Prediction:
    """Ask the network: the second step of :func:`segment`, whose parameters and errors it has."""
    loaded = segmentation.load_engine(model, engine, threads)
    card = loaded.card
    info = ModelInfo(
        name=card.name,
        version=card.version,
        sha256=card.sha256,
        engine=loaded.name,
        precision=loaded.precision,
        threshold=card.threshold,
    )
    return Prediction(segmentation.predict(scan, loaded, flip=flip, progress=progress), card, info)


def measure_prediction(scan: Scan, answered: Prediction, timing: Timing, *, experimental: bool = False) -> Result:
    """Measure what the network found: the last step of :func:`segment`.

    Parameters
    ----------
    scan : Scan
        As :func:`scanned` gives it.
    answered : Prediction
        As :func:`answer` gives it.
    timing : Timing
        Seconds of the steps so far.
    experimental : bool, default: False
        As in :func:`segment`.
    """
    start = time.perf_counter()
    answer = answered.output
    findings = measure(
        scan, answer.mask, answer.probability, dropped_specks=answer.dropped_specks, experimental=experimental
    )
    findings, widened = _add_confidence(findings, answer, scan, answered.card)
    scan = scan.with_remarks(*answer.remarks, *widened)
    timing = timing.model_copy(update={"measure": _elapsed_s(start)})
    timing = timing.model_copy(update={"total": round(timing.read + timing.infer + timing.measure, 3)})
    return Result(scan, answer.probability, answer.mask, findings, answered.model, timing)


def describe_input(scan: Scan) -> InputInfo:
    """Return a scan's form as `result.json` holds it; nothing of the patient."""
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


def make_predictor(
    model: str = "default",
    *,
    engine: str = "auto",
    threads: int = 0,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    flip: bool = False,
) -> Callable[[Path], segmentation.Prediction]:
    """Return what `evaluate` scores: a function from an image's path to its probability map and mask.

    Both are (slices, rows, columns) on the image's own grid, as :func:`segment` gives them. Parameters are those of
    :func:`segment`; its errors are raised here for the model, and by the function for an image.
    """
    loaded = segmentation.load_engine(model, engine, threads)

    def predict(path: Path) -> segmentation.Prediction:
        return segmentation.predict(read_one(path, window=window, spacing_mm=spacing_mm), loaded, flip=flip)

    return predict


def _add_confidence(
    findings: Findings, answer: segmentation.Prediction, scan: Scan, card: Card
) -> tuple[Findings, list[Remark]]:
    """Say how sure the network is, and how far its volume may be off; null where it was not calibrated."""
    volume = card.calibration.volume if card.calibration else None
    found = volume_interval_ml(findings.volume_ml, answer.probability, answer.mask, scan, volume, scan.remarks)
    findings = findings.model_copy(
        update={
            "confidence": answer.confidence,
            "volume_interval_ml": None if found is None else (found.low_ml, found.high_ml),
            "interval_level": None if found is None else found.level,
        }
    )
    if found is None or not found.widened_by:
        return findings, []
    message = f"The interval of the volume was made wider, because of {', '.join(found.widened_by)}."
    return findings, [Remark(code="interval-widened", severity="info", message=message)]


def _elapsed_s(start: float) -> float:
    return round(time.perf_counter() - start, 3)
