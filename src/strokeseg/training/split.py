"""Split samples into training and validation: patients on one side only, drawn by hash or read from a file."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import TrainError
from strokeseg.evaluation import leakage, split_file
from strokeseg.evaluation.split_file import SplitRow
from strokeseg.training import augmentation, data, own_datasets
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import Config, DataConfig
from strokeseg.training.sample import Sample

_log = logging.getLogger(__name__)
MIN_SAME_PERSON_SLICES = 3
"""Two whole scans are of one person if so many of their slices are near-duplicates. Slices that show only bone at the
vertex look alike in everybody: the 153 patients of CT-ICH and PHE-SICH have 47 such pairs, at most two between two
patients."""
LEAKING = "slice-leaking-patients"


class PatientImage(Protocol):
    """The source and the patient of an image, which a draw needs."""

    @property
    def source(self) -> str: ...
    @property
    def patient(self) -> str: ...


@dataclass(frozen=True)
class Split:
    """The samples of a configuration, split into training and validation.

    Attributes
    ----------
    training, held_out : list of StoredSlice
        Samples to train on, and samples to validate on; boxed and unlabelled ones are never held out.
    validation_patients : frozenset of str
        Patients whose samples are held out or left out.
    record : dict of str to object
        How the samples were split, for the run's record and the card; without paths.
    """

    training: list[StoredSlice]
    held_out: list[StoredSlice]
    validation_patients: frozenset[str]
    record: dict[str, Any]


def draw_validation_patients(
    samples: Iterable[PatientImage], sources: Sequence[str], share: float, seed: int
) -> frozenset[str]:
    """Draw the validation patients: the given share of each named source, at least one, the same on every machine.

    Patients are ordered by the hash of seed and name, so a patient keeps its side when others are added.
    """
    chosen: set[str] = set()
    everyone = [(sample.source, sample.patient) for sample in samples]
    for source in sources:
        patients = sorted({patient for name, patient in everyone if name == source})
        order = sorted(patients, key=lambda patient: hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest())
        chosen.update(order[: max(1, round(share * len(order)))] if order else ())
    return frozenset(chosen)


def split_samples(
    samples: Sequence[StoredSlice], validation: frozenset[str]
) -> tuple[list[StoredSlice], list[StoredSlice]]:
    """Split samples into training and validation; a patient's slices of all sources stay together.

    Boxed and unlabelled slices never validate: they have no outline to compare with.
    """
    training = [sample for sample in samples if sample.patient not in validation]
    held_out = [sample for sample in samples if sample.patient in validation and not sample.boxed and sample.labelled]
    return training, held_out


def load_split(config: Config, root: Path) -> Split:
    """Read every source of a configuration, and split the samples.

    Parameters
    ----------
    config : Config
        With ``data.split`` the sides are those of that file, and each image must be the one that the file names.
        Otherwise the sides are drawn.
    root : Path
        Folder of the data sets.

    Raises
    ------
    TrainError
        `train`, if a source or the file cannot be used, an image differs from the file, or a side is empty or has
        no blood.
    Leakage
        `leakage`, if an image of the training side is a near-duplicate of one of the validation side.
    """
    if config.data.split_by == LEAKING:
        _log.warning("data.split_by: slices of one patient are on both sides; every figure of this run is too good")
    loaded = _draw_split(config, root) if config.data.split_file is None else _read_split(config, root)
    loaded = _leave_out(loaded, frozenset(config.data.leave_out))
    loaded = replace(loaded, held_out=_limit_held_out(loaded.held_out, config.data.validate_at_most))
    if not loaded.training or not loaded.held_out:
        raise TrainError(
            f"{len(loaded.training)} training slices and {len(loaded.held_out)} validation slices: both are needed"
        )
    if not any(sample.boxed or (sample.labelled and (sample.mask == 1).any()) for sample in loaded.training):
        raise TrainError("no training slice has blood in its mask or a box", "Add a source with masks.")
    if not any((sample.mask == 1).any() for sample in loaded.held_out):
        raise TrainError(
            "no validation slice has blood in its mask, so no checkpoint can be chosen",
            "Name a source with masks in data.validation.",
        )
    return loaded


def _leave_out(loaded: Split, patients: frozenset[str]) -> Split:
    """Drop the samples of patients; refuse a patient without samples, who is more likely a slip than a wish."""
    known = {sample.patient for sample in (*loaded.training, *loaded.held_out)} | loaded.validation_patients
    if unknown := sorted(patients - known):
        raise TrainError(f"data.leave_out: no sample is of {unknown[0]}", "Check the name: SOURCE:PATIENT.")
    return replace(
        loaded,
        training=[sample for sample in loaded.training if sample.patient not in patients],
        held_out=[sample for sample in loaded.held_out if sample.patient not in patients],
    )


def _limit_held_out(held_out: Sequence[StoredSlice], limits: Mapping[str, int]) -> list[StoredSlice]:
    """Select validation slices evenly, at most the given number of each source."""
    selected = []
    for source in dict.fromkeys(sample.source for sample in held_out):
        samples = [sample for sample in held_out if sample.source == source]
        number = min(len(samples), limits.get(source, len(samples)))
        selected += [samples[index] for index in np.linspace(0, len(samples) - 1, number).astype(int)]
    return selected


def draw_rows(config: Config, root: Path) -> list[SplitRow]:
    """Draw a new split of a configuration's sources, as rows of a file.

    If a training image is a near-duplicate of a validation image, the two are of one person: all images of that
    training patient are left out, unless the split is by slice.

    Raises
    ------
    TrainError
        `train`, if a source cannot be used.
    """
    rows, pictures = [], []
    for sample in read_samples(config.data, root):
        picture = leakage.make_thumbnail(sample.hu)
        sha256, dhash = split_file.pixel_sha256(sample.hu), leakage.dhash(picture)
        rows.append(SplitRow(sample.source, sample.name, sample.patient, "train", _slice_kind(sample), sha256, dhash))
        pictures.append(picture)
    rows = _assign_sides(rows, config)
    if config.data.split_by == LEAKING:
        return rows
    same = {rows[index].patient for _, index in _find_duplicates_across_sides(rows, pictures)}
    return [replace(row, side="left-out") if row.patient in same and row.side == "train" else row for row in rows]


def read_samples(settings: DataConfig, root: Path) -> Iterator[Sample]:
    """Read every source of a configuration, one slice at a time.

    Raises
    ------
    TrainError
        As :func:`strokeseg.training.data.stream`, and if a source with a share has no slice.
    """
    own = own_datasets.make_sources(settings.own)
    for source, share in settings.sources.items():
        empty = True
        for sample in data.stream(root, source, settings.limit, own):
            empty = False
            yield sample
        if share > 0 and empty:
            raise TrainError(
                f"data.sources.{source}: no slice in it", "Remove it from data.sources, or check its folder."
            )


def make_source_reader(root: Path) -> leakage.SourceReader:
    """Return a function that reads the slices of a built-in source, for :func:`leakage.check_leakage`.

    Parameters
    ----------
    root : Path
        Folder of the data sets.

    Returns
    -------
    callable
        Takes a source, and returns pairs of name and Hounsfield units; None for any other source.
    """

    def read_source(source: str) -> Iterator[tuple[str, NDArray[np.int16]]] | None:
        if source not in data.SOURCES:
            return None
        return ((sample.name, sample.hu) for sample in data.stream(root, source))

    return read_source


def _slice_kind(sample: Sample) -> str:
    if sample.boxed:
        return "boxed"
    return "unlabelled" if not sample.labelled else "positive" if sample.positive else "negative"


def _choose_side(kind: str, validates: bool) -> str:
    if not validates:
        return "train"
    return "validation" if kind in ("positive", "negative") else "left-out"


def _assign_sides(rows: Sequence[SplitRow], config: Config) -> list[SplitRow]:
    settings, seed = config.data, config.train.seed
    if settings.split_by == LEAKING:
        # Each slice is drawn as a patient of its own.
        single = [replace(row, patient=f"{row.source}:{row.name}") for row in rows]
        chosen = draw_validation_patients(single, settings.validation, settings.validation_share, seed)
        return [
            replace(row, side=_choose_side(row.kind, one.patient in chosen))
            for row, one in zip(rows, single, strict=True)
        ]
    earlier = [] if settings.keep_sides_file is None else split_file.read(settings.keep_sides_file)
    known = {row.patient for row in earlier}
    new = [row for row in rows if row.patient not in known]
    chosen = draw_validation_patients(new, settings.validation, settings.validation_share, seed)
    chosen |= {row.patient for row in earlier if row.side == "validation"}
    return [replace(row, side=_choose_side(row.kind, row.patient in chosen)) for row in rows]


def _find_duplicates_across_sides(
    rows: Sequence[SplitRow], pictures: Sequence[leakage.Thumbnail]
) -> list[tuple[int, int]]:
    """Find near-duplicates across the sides: pairs of a validation index and a training index.

    Two whole scans need several pairs (``MIN_SAME_PERSON_SLICES``).
    """
    validation = [index for index, row in enumerate(rows) if row.side == "validation"]
    training = [index for index, row in enumerate(rows) if row.side == "train"]
    duplicates = leakage.find_near_duplicates(
        [pictures[index] for index in validation],
        leakage.unpack_dhashes(rows[index].dhash for index in training),
        lambda index: pictures[training[index]],
    )
    pairs = [(validation[one], training[other]) for one, other in duplicates]
    scans = [_whole_scan_patients(rows[one], rows[other]) for one, other in pairs]
    counts = Counter(scans)
    return [
        pair
        for pair, patients in zip(pairs, scans, strict=True)
        if patients is None or counts[patients] >= MIN_SAME_PERSON_SLICES
    ]


def _whole_scan_patients(one: SplitRow, other: SplitRow) -> tuple[str, str] | None:
    """Return the patients of two slices of whole scans; None if either is a single slice."""
    whole = all(row.source in data.SOURCES and data.SOURCES[row.source].whole for row in (one, other))
    return (one.patient, other.patient) if whole else None


def _draw_split(config: Config, root: Path) -> Split:
    settings = config.data
    record = {"by": settings.split_by, "file": None}
    store = augmentation.SliceStore(bool(config.network.neighbours))
    if settings.split_by == LEAKING:
        samples = list(read_samples(settings, root))
        rows = [SplitRow(s.source, s.name, s.patient, "train", _slice_kind(s), "", "") for s in samples]
        return _collect_split(zip(_assign_sides(rows, config), map(store, samples), strict=True), record)
    stored = [store(sample) for sample in read_samples(settings, root)]
    validation = draw_validation_patients(stored, settings.validation, settings.validation_share, config.train.seed)
    return Split(*split_samples(stored, validation), validation, record)


def _read_split(config: Config, root: Path) -> Split:
    settings, path = config.data, config.data.split_file
    assert path is not None
    store = augmentation.SliceStore(bool(config.network.neighbours))
    leaking = settings.split_by == LEAKING
    known = {(row.source, row.name): row for row in split_file.read(path, leaking=leaking)}
    rows: list[SplitRow] = []
    stored, pictures = [], []
    for sample in read_samples(settings, root):
        pictures.append(leakage.make_thumbnail(sample.hu))
        rows.append(_find_row(sample, leakage.dhash(pictures[-1]), known, path.name))
        stored.append(store(sample))
    if settings.limit is None:
        _check_complete(rows, known, settings, path.name)
    if not leaking:
        leakage.refuse_duplicates(
            (_image_label(rows[one]), _image_label(rows[other]))
            for one, other in _find_duplicates_across_sides(rows, pictures)
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    left_out = sum(row.side == "left-out" for row in rows)
    record = {"by": settings.split_by, "file": path.name, "sha256": digest, "left_out": left_out}
    return _collect_split(zip(rows, stored, strict=True), record)


def _image_label(row: SplitRow) -> str:
    return f"{row.source} {row.name}"


def _collect_split(samples: Iterable[tuple[SplitRow, StoredSlice]], record: dict[str, Any]) -> Split:
    by_side: dict[str, list[StoredSlice]] = {side: [] for side in split_file.SIDES}
    patients = set()
    for row, sample in samples:
        by_side[row.side].append(sample)
        if row.side == "validation":
            patients.add(row.patient)
    return Split(by_side["train"], by_side["validation"], frozenset(patients), record)


def _find_row(sample: Sample, dhash: str, known: Mapping[tuple[str, str], SplitRow], file: str) -> SplitRow:
    row = known.get((sample.source, sample.name))
    if row is None:
        raise TrainError(f"{file}: does not name {sample.source} {sample.name}", split_file.REMEDY)
    if row.sha256 != split_file.pixel_sha256(sample.hu):
        raise TrainError(f"{sample.source} {sample.name}: not the pixels that {file} names", split_file.REMEDY)
    if row.dhash != dhash:
        raise TrainError(
            f"{file}: the dhash of {sample.source} {sample.name} is not that of its pixels", split_file.REMEDY
        )
    if (row.patient, row.kind) != (sample.patient, _slice_kind(sample)):
        raise TrainError(
            f"{file}: {sample.source} {sample.name} is {row.patient}, {row.kind}; the data say {sample.patient}, "
            f"{_slice_kind(sample)}",
            split_file.REMEDY,
        )
    if row.side == "validation" and row.kind not in ("positive", "negative"):
        raise TrainError(f"{file}: {sample.source} {sample.name} is {row.kind} and cannot validate", split_file.REMEDY)
    return row


def _check_complete(
    rows: Sequence[SplitRow], known: Mapping[tuple[str, str], SplitRow], settings: DataConfig, file: str
) -> None:
    images = {(row.source, row.name) for row in rows}
    missing = [
        f"{source} {name}" for source, name in known if source in settings.sources and (source, name) not in images
    ]
    if missing:
        raise TrainError(
            f"{file}: names {missing[0]}, which the data lack, and {len(missing) - 1} more", split_file.REMEDY
        )
