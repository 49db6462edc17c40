"""Comparison of two scans of one patient: read, segment, register, match the lesions, measure the change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from strokeseg import pipeline
from strokeseg.errors import DifferentPatients, InconsistentGeometry, UsageError
from strokeseg.followup import comparability, outputs
from strokeseg.followup.document import AlignmentInfo, Change, ChangeDocument, ChangeTiming, ComparedScan
from strokeseg.followup.plane_pairs import choose_slices, make_plane_pairs
from strokeseg.followup.registration import Alignment, align_skulls
from strokeseg.followup.skull import extract_skull
from strokeseg.followup.total_change import measure_change
from strokeseg.pipeline import Result
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.segmentation import Progress
from strokeseg.version import __version__

# Two scans of one head, in any position and with any protocol, had a bone overlap of 0.94 or more; synthetic heads of
# different people's sizes had 0.66 to 0.95. docs/compare.md has the figures.
DOUBTFUL_OVERLAP, DIFFERENT_OVERLAP = 0.9, 0.8
_MIN_SLICES = 3


@dataclass(frozen=True)
class Comparison:
    """The comparison of two scans.

    Attributes
    ----------
    earlier, later : Result
        The results of the two scans.
    alignment : Alignment
        Registration of the earlier scan to the later one.
    change : Change
        The change.
    remarks : tuple of Remark
        Remarks on the comparison, in addition to those of each scan.
    timing : ChangeTiming
        Seconds of each step so far.
    """

    earlier: Result
    later: Result
    alignment: Alignment
    change: Change
    remarks: tuple[Remark, ...]
    timing: ChangeTiming

    @property
    def document(self) -> ChangeDocument:
        """The comparison as in `change.json`, without files."""
        alignment = self.alignment
        rows = [(round(float(a), 6), round(float(b), 6), round(float(c), 6)) for a, b, c in alignment.rotation]
        x, y, z = (round(float(length), 3) for length in alignment.shift_mm)
        return ChangeDocument(
            software=f"strokeseg {__version__}",
            remarks=list(self.remarks),
            change=self.change,
            alignment=AlignmentInfo(
                rotation=(rows[0], rows[1], rows[2]),
                shift_mm=(x, y, z),
                angle_deg=round(alignment.angle_deg, 2),
                skulls_apart_mm=round(alignment.distance_mm, 2),
                bone_overlap=round(alignment.overlap, 3),
                shared=round(alignment.shared, 3),
            ),
            earlier=_describe_scan(self.earlier),
            later=_describe_scan(self.later),
            timing_s=self.timing,
        )

    def save(self, out: str | Path, formats: Sequence[str] = outputs.FORMATS) -> ChangeDocument:
        """Write the comparison into a folder, all files or none; the folder is created if missing.

        Parameters
        ----------
        out : str or Path
            The folder.
        formats : sequence of str, optional
            Some of "json" (always written), "report", "keys".

        Returns
        -------
        ChangeDocument
            The document as written, with its files and timing.

        Raises
        ------
        UsageError
            `usage`, for an unknown format.
        NotWritable, DiskFull
            `not-writable`, `disk-full`.
        """
        start = time.perf_counter()
        slices = choose_slices(self.earlier, self.later, self.alignment, self.change)
        pairs = make_plane_pairs(self.earlier, self.later, self.alignment, slices)
        timing = self.timing.model_copy(update={"write": _elapsed_s(start)})
        return outputs.save(out, self.document.model_copy(update={"timing_s": timing}), pairs, formats)


def compare(
    earlier: str | Path | Scan | Result,
    later: str | Path | Scan | Result,
    *,
    model: str = "default",
    engine: str = "auto",
    threads: int = 0,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    order: str = "auto",
    series_earlier: str | None = None,
    series_later: str | None = None,
    flip: bool = False,
    operating_point: str = "balanced",
    threshold: float | None = None,
    smallest_ml: float | None = None,
    same_patient: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two scans of one patient.

    Each input that is not a :class:`Result` yet is segmented. The scans are registered by the skull; volumes are those
    on the planes as acquired. The order of the arguments alone states which scan is the earlier one.

    Parameters
    ----------
    earlier, later : str or Path or Scan or Result
        An input of :func:`strokeseg.segment`, or its result.
    model : str, default: "default"
        As in :func:`strokeseg.segment`.
    engine : str, default: "auto"
        As in :func:`strokeseg.segment`.
    threads : int, default: 0
        As in :func:`strokeseg.segment`.
    window : tuple of (float, float), optional
        (centre, width) of pictures, for both inputs.
    spacing_mm : tuple of (float, float, float), optional
        (slice, row, column) of pictures, mm, for both inputs.
    order : {"auto", "lowest-first", "highest-first"}, default: "auto"
        Direction of stacks of pictures, for both inputs.
    series_earlier, series_later : str, optional
        Series instance UID, or its beginning, if an input has several series.
    flip : bool, default: False
        As in :func:`strokeseg.segment`.
    operating_point : {"sensitive", "balanced", "specific"}, default: "balanced"
        As in :func:`strokeseg.segment`.
    threshold : float, optional
        As in :func:`strokeseg.segment`.
    smallest_ml : float, optional
        As in :func:`strokeseg.segment`.
    same_patient : bool, default: False
        Compare even if patient IDs or skulls indicate two patients.
    progress : callable, optional
        As in :func:`strokeseg.segment`.

    Returns
    -------
    Comparison
        The comparison.

    Raises
    ------
    DifferentPatients
        `different-patients`, if the patient IDs differ, or the skulls do not match.
    InconsistentGeometry
        `geometry`, if the spacing of a scan is unknown, it has fewer than three slices, no skull is detected, or the
        scans share too little of the skull.
    InputError, ModelError, UsageError
        As :func:`strokeseg.segment`.
    """

    def get_result(source: str | Path | Scan | Result, series: str | None) -> Result:
        if isinstance(source, Result):
            _check_result(source)
            return source
        is_file = not isinstance(source, Scan)
        return pipeline.segment(
            source,
            model=model,
            engine=engine,
            threads=threads,
            window=window if is_file else None,
            spacing_mm=spacing_mm if is_file else None,
            order=order if is_file else "auto",
            series=series,
            flip=flip,
            operating_point=operating_point,
            threshold=threshold,
            smallest_ml=smallest_ml,
            progress=progress,
        )

    return _compare_results(get_result(earlier, series_earlier), get_result(later, series_later), same_patient)


def _compare_results(earlier: Result, later: Result, same_patient: bool) -> Comparison:
    _require_geometry(earlier.scan, "earlier")
    _require_geometry(later.scan, "later")
    remarks = []
    if comparability.have_different_patient_ids(earlier.scan, later.scan):
        if not same_patient:
            raise DifferentPatients("the two scans have different patient IDs")
        message = "The two scans have different patient IDs; they were compared as requested."
        remarks.append(comparability.make_warning(code="other-patient-number", message=message))
    remarks += comparability.check_order(earlier.scan, later.scan)
    start = time.perf_counter()
    alignment = _align(earlier, later)
    align_s = _elapsed_s(start)
    remarks += _check_overlap(alignment, same_patient)
    start = time.perf_counter()
    change = measure_change(earlier, later, alignment)
    is_same_model = earlier.model.sha256 == later.model.sha256
    remarks += comparability.check_protocols(earlier.scan, later.scan, is_same_model)
    remarks += comparability.check_coverage(change, alignment.shared)
    remarks += comparability.explain_missing_values(change)
    timing = ChangeTiming(align=align_s, match=_elapsed_s(start))
    return Comparison(earlier, later, alignment, change, tuple(remarks), timing)


def _check_result(result: Result) -> None:
    """Refuse a Result whose mask does not belong to its scan, or whose findings do not belong to its mask."""
    if result.mask.shape != result.scan.shape or result.mask.dtype != np.bool_:
        raise UsageError(
            "the mask of a Result must be bool and have the shape of its scan", "Pass a Result from segment()."
        )
    pixels = np.bincount(result.labels.ravel(), minlength=1)[1:].tolist()
    if pixels != [lesion.pixels for lesion in result.findings.lesions]:
        raise UsageError("the findings of a Result belong to another mask", "Use the findings of measure(scan, mask).")


def _require_geometry(scan: Scan, which: str) -> None:
    if not scan.spacing_known:
        raise InconsistentGeometry(
            f"the spacing of the {which} scan is unknown, so the scans cannot be registered",
            "Pass --spacing slice,row,column.",
        )
    if len(scan.hu) < _MIN_SLICES:
        raise InconsistentGeometry(
            f"the {which} scan has {len(scan.hu)} slices; at least {_MIN_SLICES} are required",
            "Pass the whole scan: a single slice cannot be registered.",
        )
    if scan.weights_mm is None:
        raise InconsistentGeometry(
            f"slices of the {which} scan have the same position or are out of order, so it has no volume",
            "Pass each slice once, from the lowest to the highest.",
        )


def _align(earlier: Result, later: Result) -> Alignment:
    skulls = []
    for result, which in ((earlier, "earlier"), (later, "later")):
        skull = extract_skull(result.scan, result.mask)
        if skull is None or not len(skull.surface_mm):
            raise InconsistentGeometry(f"no skull was detected in the {which} scan", "Pass a CT of the whole head.")
        skulls.append(skull)
    alignment = align_skulls(*skulls)
    if alignment is None:
        raise InconsistentGeometry(
            "the two scans share too little of the skull to be registered",
            "Pass two scans that both show most of the head.",
        )
    return alignment


def _check_overlap(alignment: Alignment, same_patient: bool) -> list[Remark]:
    overlap = f"after registration, the bone overlap is {alignment.overlap:.2f} (0.9 to 1 for the same head)"
    if alignment.overlap < DIFFERENT_OVERLAP and not same_patient:
        raise DifferentPatients(f"the two scans seem to show different heads: {overlap}")
    if alignment.overlap >= DOUBTFUL_OVERLAP:
        return []
    message = f"{overlap[0].upper()}{overlap[1:]}. Lesions may be matched wrongly, or these are two patients."
    return [comparability.make_warning(code="alignment-doubtful", message=message)]


def _describe_scan(result: Result) -> ComparedScan:
    return ComparedScan(
        remarks=result.remarks,
        input=pipeline.describe_input(result.scan),
        model=result.model,
        findings=result.findings,
    )


def _elapsed_s(start: float) -> float:
    return round(time.perf_counter() - start, 3)
