"""Score the answers of `strokeseg segment` for whole scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from strokeseg.errors import InputError, TrainError
from strokeseg.evaluation.bootstrap import Bootstrap
from strokeseg.evaluation.image_files import Spacing
from strokeseg.evaluation.scan_row import Reference, ScoredScan, score_scan
from strokeseg.evaluation.scan_scores import score_rows
from strokeseg.evaluation.scans import ScanCase
from strokeseg.evaluation.schema import Evaluation, RefusedScan
from strokeseg.evaluation.scoring import Progress, SliceResult, assemble
from strokeseg.evaluation.tally import Tally
from strokeseg.pipeline import Result

Segment = Callable[[Path], Result]


def evaluate_scans(
    cases: Sequence[ScanCase],
    segment: Segment,
    *,
    assumed_spacing_mm: Spacing | None = None,
    data_set: str | None = None,
    role: str | None = None,
    unseen: str | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Segment whole scans and score the answers by patient, scan, lesion, slice and pixel.

    Parameters
    ----------
    cases : sequence of ScanCase
        The scans, as :func:`strokeseg.evaluation.scans.find_scans` returns them.
    segment : callable
        Takes the path of a scan and returns the answer: :func:`strokeseg.segment` with a model and options.
    assumed_spacing_mm : tuple of float, optional
        (slice, row, column), mm, for the figures of scans without a spacing. The answers do not depend on it.
    data_set, role, unseen : str, optional
        What was scored, as reported.
    level : float, default: 0.95
        Level of the intervals over patients.
    draws, seed : int
        Number of draws and seed of the bootstrap.
    progress : callable, optional
        Called with the number of completed scans and the number of all scans.

    Returns
    -------
    Evaluation
        All scores; `whole_scans` has those of whole scans.

    Raises
    ------
    TrainError
        `train`, if there is no scan, a mask cannot be used, or every scan is refused.
    """
    scored: list[ScoredScan] = []
    refused: list[RefusedScan] = []
    models = {}
    for count, case in enumerate(cases, start=1):
        try:
            result = segment(case.image)
        except InputError as error:
            refused.append(RefusedScan(name=case.name, patient=case.patient, code=error.code))
        else:
            models[result.model.sha256] = result.model
            reference = case.read_reference(result.scan)
            _check_blood(case, reference)
            scored.append(score_scan(case.name, case.patient, result, reference, case.blood, assumed_spacing_mm))
        if progress:
            progress(count, len(cases))
    tallies: dict[str, Tally] = {}
    for scan in scored:
        if scan.tally is not None:
            patient = scan.row.patient
            tallies[patient] = tallies[patient] + scan.tally if patient in tallies else scan.tally
    if not tallies:
        listed = ", ".join(f"{each.name} ({each.code})" for each in refused[:6])
        raise TrainError("no scan to score" + (f"; refused: {listed}" if refused else ""))
    rows = [scan.row for scan in scored]
    bootstrap = Bootstrap(level, draws, seed)
    source = {
        "data_set": data_set,
        "role": role,
        "unseen": [] if unseen is None else [unseen],
        "models": list(models.values()),
        "spacing_assumed_mm": assumed_spacing_mm if any(row.spacing_assumed for row in rows) else None,
        "refused": refused,
    }
    return assemble(
        [each for scan in scored for each in scan.slices],
        tallies,
        [
            SliceResult(row.patient, blood, score, marked)
            for row in rows
            for blood, score, marked in zip(row.slice_blood, row.slice_score, row.slice_marked, strict=True)
        ],
        bootstrap,
        threshold=next(iter(models.values())).threshold,
        as_segmented=True,
        whole_scans=score_rows(source, rows, bootstrap),
    )


def _check_blood(case: ScanCase, reference: Reference) -> None:
    """Refuse an annotation that contradicts what index.csv says; a scan of which no pixel is known may hold blood."""
    if case.blood is None or not reference.known.any() or case.blood == reference.truth.any():
        return
    said = "holds blood, and no pixel of its mask does" if case.blood else "holds no blood, and its mask does"
    raise TrainError(f"{case.name}: index.csv says that it {said}", "Correct one of the two.")
