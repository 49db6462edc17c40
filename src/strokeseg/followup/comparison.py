"""Two scans of one head, earlier and later: read, segment, lay on each other, and say what changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from strokeseg import pipeline
from strokeseg.errors import DifferentPatients, InconsistentGeometry, UsageError
from strokeseg.followup import comparability, matching
from strokeseg.followup import outputs as writing
from strokeseg.followup.document import AlignmentInfo, Change, ChangeDocument, ChangeTiming, ComparedScan
from strokeseg.followup.registration import Alignment, align_skulls
from strokeseg.followup.skull import extract_skull
from strokeseg.imaging import components
from strokeseg.pipeline import Result
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.segmentation import Progress
from strokeseg.version import __version__

# Of one head, in any position and by any protocol, the bone's overlap was 0.94 or more; of analytic heads whose sizes
# differ as people's do it was 0.66 to 0.95. docs/compare.md has the figures.
DOUBTFUL_OVERLAP, DIFFERENT_OVERLAP = 0.9, 0.8
_MIN_SLICES = 3
_MAX_IMAGES = 6


@dataclass(frozen=True)
class Comparison:
    """What changed between two scans.

    Parameters
    ----------
    earlier, later : Result
        What was found in each.
    alignment : Alignment
        How the earlier head lies on the later one.
    change : Change
        The numbers.
    remarks : tuple of Remark
        What the reader must know of the comparison, beside the remarks of each scan.
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
        """The comparison as `change.json` holds it, without files."""
        laid = self.alignment
        rows = [(round(float(a), 6), round(float(b), 6), round(float(c), 6)) for a, b, c in laid.rotation]
        x, y, z = (round(float(length), 3) for length in laid.shift_mm)
        return ChangeDocument(
            software=f"strokeseg {__version__}",
            remarks=list(self.remarks),
            change=self.change,
            alignment=AlignmentInfo(
                rotation=(rows[0], rows[1], rows[2]),
                shift_mm=(x, y, z),
                angle_deg=round(laid.angle_deg, 2),
                skulls_apart_mm=round(laid.distance_mm, 2),
                bone_overlap=round(laid.overlap, 3),
                shared=round(laid.shared, 3),
            ),
            earlier=_describe_scan(self.earlier),
            later=_describe_scan(self.later),
            timing_s=self.timing,
        )

    def save(self, out: str | Path, formats: Sequence[str] = writing.FORMATS) -> ChangeDocument:
        """Write the comparison into a folder, which is made if missing; all files appear or none.

        Parameters
        ----------
        out : str or Path
            Folder.
        formats : sequence of str, default: writing.FORMATS
            Of "json" (always written), "report", "keys".

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
        begun = time.perf_counter()
        slices = choose_slices(self)
        before, old = matching.resample_to_slices(
            self.earlier.scan, self.earlier.mask, self.alignment, self.later.scan, slices
        )
        after = matching.select_slices(self.later.scan, slices, self.later.scan.hu[slices], self.later.scan)
        pairs = writing.PlanePairs(tuple(slices), before, old, after, self.later.mask[slices])
        document = self.document
        spent = self.timing.model_copy(update={"write": _elapsed_s(begun)})
        return writing.save(out, document.model_copy(update={"timing_s": spent}), pairs, formats)


def compare(
    earlier: str | Path | Scan | Result,
    later: str | Path | Scan | Result,
    *,
    model: str = "default",
    engine: str = "auto",
    threads: int = 0,
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    series_earlier: str | None = None,
    series_later: str | None = None,
    flip: bool = False,
    same_patient: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Say what changed between two scans of one head.

    Each side is segmented where it is no :class:`Result` yet. The heads are laid on each other by their skulls; volumes
    are those on the planes as acquired. Which scan is the earlier one is taken from the order alone.

    Parameters
    ----------
    earlier, later : str or Path or Scan or Result
        What :func:`strokeseg.segment` takes, or its result.
    window, spacing_mm : tuple of (float, float), optional
        Of pictures, for both sides.
    series_earlier, series_later : str, optional
        The series instance UID, or its beginning, where a side holds several.
    same_patient : bool, default: False
        Compare also where headers or skulls say that these are two patients.
    model, engine, threads, flip, progress : str, default: "default"
        As in :func:`strokeseg.segment`.

    Raises
    ------
    DifferentPatients
        `different-patients`, if the patients' numbers differ, or the skulls do not fit.
    InconsistentGeometry
        `geometry`, if the spacing is not known, a side has fewer than three slices, no skull is found, or the two
        show too little of the same skull.
    InputError, ModelError, UsageError
        As :func:`strokeseg.segment`.
    """

    def found(side: str | Path | Scan | Result, series: str | None) -> Result:
        if isinstance(side, Result):
            _check_result(side)
            return side
        of_files = not isinstance(side, Scan)
        return pipeline.segment(
            side,
            model=model,
            engine=engine,
            threads=threads,
            window=window if of_files else None,
            spacing_mm=spacing_mm if of_files else None,
            series=series,
            flip=flip,
            progress=progress,
        )

    return _compare_results(found(earlier, series_earlier), found(later, series_later), same_patient)


def _compare_results(earlier: Result, later: Result, same_patient: bool) -> Comparison:
    _require_geometry(earlier.scan, "earlier")
    _require_geometry(later.scan, "later")
    remarks = []
    if comparability.have_different_patient_ids(earlier.scan, later.scan):
        said = "the two scans carry different patient numbers"
        if not same_patient:
            raise DifferentPatients(said)
        message = said.capitalize() + "; they were compared as you asked."
        remarks.append(comparability.make_warning(code="other-patient-number", message=message))
    remarks += comparability.check_order(earlier.scan, later.scan)
    begun = time.perf_counter()
    alignment = _align(earlier, later)
    aligned_s = _elapsed_s(begun)
    remarks += _check_overlap(alignment, same_patient)
    begun = time.perf_counter()
    found = matching.measure_change(
        matching.SegmentedScan(earlier.scan, earlier.mask, earlier.findings),
        matching.SegmentedScan(later.scan, later.mask, later.findings),
        alignment,
    )
    same_network = earlier.model.sha256 == later.model.sha256
    remarks += comparability.check_protocols(earlier.scan, later.scan, same_network)
    remarks += [*comparability.check_coverage(found, alignment.shared), *comparability.explain_missing_values(found)]
    timing = ChangeTiming(align=aligned_s, match=_elapsed_s(begun))
    return Comparison(earlier, later, alignment, found, tuple(remarks), timing)


def _check_result(result: Result) -> None:
    """Refuse a Result that was put together of parts that do not belong together."""
    if result.mask.shape != result.scan.shape or result.mask.dtype != np.bool_:
        raise UsageError("a Result's mask must be bool and of its scan's shape", "Give what segment() gives.")
    labels, count = components.label(result.mask, result.scan)
    pixels = np.bincount(labels.ravel(), minlength=count + 1)[1:].tolist()
    if pixels != [lesion.pixels for lesion in result.findings.lesions]:
        raise UsageError(
            "a Result's findings are of another mask than its own", "Give the findings of measure(scan, mask)."
        )


def _require_geometry(scan: Scan, which: str) -> None:
    if not scan.spacing_known:
        raise InconsistentGeometry(
            f"the spacing of the {which} scan is not known, so the heads cannot be laid on each other",
            "Pass --spacing slice,row,column.",
        )
    if len(scan.hu) < _MIN_SLICES:
        raise InconsistentGeometry(
            f"the {which} scan has too few slices, {len(scan.hu)}; at least {_MIN_SLICES} are needed",
            "Give the whole scan: one slice of a head cannot be laid on another head.",
        )
    if scan.weights_mm is None:
        raise InconsistentGeometry(
            f"slices of the {which} scan lie in the same place or in no order, so it has no volume",
            "Give each slice once, from the lowest to the highest.",
        )


def _align(earlier: Result, later: Result) -> Alignment:
    skulls = []
    for result, which in ((earlier, "earlier"), (later, "later")):
        found = extract_skull(result.scan, result.mask)
        if found is None or not len(found.surface_mm):
            raise InconsistentGeometry(f"no skull is found in the {which} scan", "Give a CT of the whole head.")
        skulls.append(found)
    alignment = align_skulls(*skulls)
    if alignment is None:
        raise InconsistentGeometry(
            "the two scans show too little of the same skull to be laid on each other",
            "Give two scans that both show most of the head.",
        )
    return alignment


def _check_overlap(alignment: Alignment, same_patient: bool) -> list[Remark]:
    said = (
        f"laid on each other, the bone of the two skulls overlaps by {alignment.overlap:.2f}, of one head by 0.9 to 1"
    )
    if alignment.overlap < DIFFERENT_OVERLAP and not same_patient:
        raise DifferentPatients(f"these seem to be two heads: {said}")
    if alignment.overlap >= DOUBTFUL_OVERLAP:
        return []
    message = f"{said[0].upper()}{said[1:]}. Lesions may be matched wrongly, or these are two patients."
    return [comparability.make_warning(code="alignment-doubtful", message=message)]


def _describe_scan(result: Result) -> ComparedScan:
    return ComparedScan(
        remarks=result.remarks,
        input=pipeline.describe_input(result.scan),
        model=result.model,
        findings=result.findings,
    )


def choose_slices(comparison: Comparison) -> list[int]:
    """Choose the later scan's slices for the pictures: for each change the one with most of it, at most six."""
    later = comparison.later.scan
    after, _ = components.label(comparison.later.mask, later)
    before, _ = components.label(comparison.earlier.mask, comparison.earlier.scan)
    chosen = []
    for lesion in comparison.change.lesions:
        if lesion.later:
            chosen.append(int(np.isin(after, lesion.later).sum((1, 2)).argmax()))
        else:
            pixels = np.argwhere(np.isin(before, lesion.earlier))
            places = comparison.alignment.to_later(comparison.earlier.scan.planes.to_lps_mm(pixels))
            along = float((places @ later.planes.normal).mean())
            chosen.append(int(np.abs(later.planes.along_normal_mm - along).argmin()))
    unique = list(dict.fromkeys(chosen))[:_MAX_IMAGES]
    return sorted(unique) or [len(later.hu) // 2]


def _elapsed_s(start: float) -> float:
    return round(time.perf_counter() - start, 3)
