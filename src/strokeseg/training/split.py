"""Which samples train and which validate: patients on one side only, drawn by hash or read from a file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from strokeseg.errors import TrainError
from strokeseg.evaluation import leakage, split_file
from strokeseg.evaluation.split_file import SplitRow
from strokeseg.training import augmentation, data, own_datasets
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import Config, DataConfig
from strokeseg.training.data import Sample

_log = logging.getLogger(__name__)
LEAKING = "slice-leaking-patients"


class PatientImage(Protocol):
    """What a draw needs to know of an image."""

    @property
    def source(self) -> str: ...
    @property
    def patient(self) -> str: ...


@dataclass(frozen=True)
class Split:
    """A configuration's samples on their sides.

    Parameters
    ----------
    training, held_out : list of StoredSlice
        The samples; boxed and unlabelled ones are never held out.
    validation : object
        The patients of whom samples are held out or left out.
    record : dict of str to object
        How it was split, for the run's record and the card; holds no path.
    """

    training: list[StoredSlice]
    held_out: list[StoredSlice]
    validation_patients: frozenset[str]
    record: dict[str, Any]


def draw_validation_patients(
    samples: Iterable[PatientImage], sources: Sequence[str], share: float, seed: int
) -> frozenset[str]:
    """Draw the validation patients: of each named source the given share, at least one, the same on every machine.

    A patient's place in the draw is the hash of seed and name, so that a patient keeps its side when others come in.
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
    """Part the samples into training and validation; a patient's slices of every source stay together.

    Boxed and unlabelled slices never validate: there is no outline to hold an answer to.
    """
    training = [sample for sample in samples if sample.patient not in validation]
    held_out = [sample for sample in samples if sample.patient in validation and not sample.boxed and sample.labelled]
    return training, held_out


def load_split(config: Config, root: Path) -> Split:
    """Read every source of a configuration, each sample on its side.

    Parameters
    ----------
    config : Config
        With ``data.split`` the sides are those of that file, and each image must be the one that it names; without,
        they are drawn.
    root : Path
        Folder of the data sets.

    Raises
    ------
    TrainError
        `train`, if a source or the file cannot be used, an image is not that of the file, or a side is empty or
        without blood.
    Leakage
        `leakage`, if an image of the training side is nearly one of the validation side.
    """
    if config.data.split_by == LEAKING:
        _log.warning("data.split_by: slices of one patient stand on both sides; every figure of this run is too good")
    sides = _draw_split(config, root) if config.data.split_file is None else _read_split(config.data, root)
    if not sides.training or not sides.held_out:
        raise TrainError(
            f"{len(sides.training)} slices to train on and {len(sides.held_out)} to validate on: both must be there"
        )
    if not any(sample.boxed or (sample.labelled and (sample.mask == 1).any()) for sample in sides.training):
        raise TrainError("no slice to train on has blood in its mask or a box", "Add a source with masks.")
    if not any((sample.mask == 1).any() for sample in sides.held_out):
        raise TrainError(
            "no slice to validate on has blood in its mask, so there is nothing to choose by",
            "Name a source with masks in data.validation.",
        )
    return sides


def draw_rows(config: Config, root: Path) -> list[SplitRow]:
    """Draw a new split of a configuration's sources, as rows of a file.

    Where an image to train on is nearly one that validates, the two are of one person: all images of the patient to
    train on are left out, unless slices are split.

    Raises
    ------
    TrainError
        `train`, if a source cannot be used.
    """
    made, pictures = [], []
    for sample in read_samples(config.data, root):
        picture = leakage.make_thumbnail(sample.hu)
        sha256, dhash = split_file.pixel_sha256(sample.hu), leakage.dhash(picture)
        made.append(SplitRow(sample.source, sample.name, sample.patient, "train", _slice_kind(sample), sha256, dhash))
        pictures.append(picture)
    made = _assign_sides(made, config)
    if config.data.split_by == LEAKING:
        return made
    same = {made[index].patient for _, index in _find_duplicates_across_sides(made, pictures)}
    return [replace(row, side="left-out") if row.patient in same and row.side == "train" else row for row in made]


def read_samples(table: DataConfig, root: Path) -> Iterator[Sample]:
    """Read every source of a configuration, one slice at a time.

    Raises
    ------
    TrainError
        As :func:`strokeseg.training.data.stream`, and if a source with a share gives no slice.
    """
    own = own_datasets.make_sources(table.own)
    for source, share in table.sources.items():
        given = False
        for sample in data.stream(root, source, table.limit, own):
            given = True
            yield sample
        if share > 0 and not given:
            raise TrainError(
                f"data.sources.{source}: gives no slice", "Take it out of data.sources, or look into its folder."
            )


def _slice_kind(sample: Sample) -> str:
    if sample.boxed:
        return "boxed"
    return "unlabelled" if not sample.labelled else "positive" if sample.positive else "negative"


def _choose_side(kind: str, drawn: bool) -> str:
    if not drawn:
        return "train"
    return "validation" if kind in ("positive", "negative") else "left-out"


def _assign_sides(made: Sequence[SplitRow], config: Config) -> list[SplitRow]:
    table, seed = config.data, config.train.seed
    if table.split_by == LEAKING:
        # Each slice is drawn as a patient of its own.
        single = [replace(row, patient=f"{row.source}:{row.name}") for row in made]
        chosen = draw_validation_patients(single, table.validation, table.validation_share, seed)
        return [
            replace(row, side=_choose_side(row.kind, one.patient in chosen))
            for row, one in zip(made, single, strict=True)
        ]
    chosen = draw_validation_patients(made, table.validation, table.validation_share, seed)
    return [replace(row, side=_choose_side(row.kind, row.patient in chosen)) for row in made]


def _find_duplicates_across_sides(
    made: Sequence[SplitRow], pictures: Sequence[leakage.Thumbnail]
) -> list[tuple[int, int]]:
    """Find near-duplicates across the sides: (index that validates, index that trains)."""
    validation = [index for index, row in enumerate(made) if row.side == "validation"]
    training = [index for index, row in enumerate(made) if row.side == "train"]
    found = leakage.find_near_duplicates(
        [pictures[index] for index in validation],
        leakage.unpack_dhashes(made[index].dhash for index in training),
        lambda index: pictures[training[index]],
    )
    return [(validation[mine], training[other]) for mine, other in found]


def _draw_split(config: Config, root: Path) -> Split:
    table = config.data
    record = {"by": table.split_by, "file": None}
    if table.split_by == LEAKING:
        everyone = list(read_samples(table, root))
        made = [SplitRow(s.source, s.name, s.patient, "train", _slice_kind(s), "", "") for s in everyone]
        return _collect_split(
            zip(_assign_sides(made, config), map(augmentation.store_slice, everyone), strict=True), record
        )
    stored = [augmentation.store_slice(sample) for sample in read_samples(table, root)]
    validation = draw_validation_patients(stored, table.validation, table.validation_share, config.train.seed)
    return Split(*split_samples(stored, validation), validation, record)


def _read_split(table: DataConfig, root: Path) -> Split:
    path = table.split_file
    assert path is not None
    leaking = table.split_by == LEAKING
    written = split_file.read(path, leaking=leaking)
    known = {(row.source, row.name): row for row in written}
    found: list[SplitRow] = []
    stored, pictures = [], []
    for sample in read_samples(table, root):
        pictures.append(leakage.make_thumbnail(sample.hu))
        found.append(_find_row(sample, leakage.dhash(pictures[-1]), known, path.name))
        stored.append(augmentation.store_slice(sample))
    if table.limit is None:
        _check_complete(found, known, table, path.name)
    if not leaking:
        leakage.refuse_duplicates(
            (_image_label(found[mine]), _image_label(found[other]))
            for mine, other in _find_duplicates_across_sides(found, pictures)
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    left_out = sum(row.side == "left-out" for row in found)
    record = {"by": table.split_by, "file": path.name, "sha256": digest, "left_out": left_out}
    return _collect_split(zip(found, stored, strict=True), record)


def _image_label(row: SplitRow) -> str:
    return f"{row.source} {row.name}"


def _collect_split(samples: Iterable[tuple[SplitRow, StoredSlice]], record: dict[str, Any]) -> Split:
    both: dict[str, list[StoredSlice]] = {side: [] for side in split_file.SIDES}
    patients = set()
    for row, sample in samples:
        both[row.side].append(sample)
        if row.side == "validation":
            patients.add(row.patient)
    return Split(both["train"], both["validation"], frozenset(patients), record)


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
    found: Sequence[SplitRow], known: Mapping[tuple[str, str], SplitRow], table: DataConfig, file: str
) -> None:
    there = {(row.source, row.name) for row in found}
    missing = [f"{source} {name}" for source, name in known if source in table.sources and (source, name) not in there]
    if missing:
        raise TrainError(
            f"{file}: names {missing[0]}, which the data lack, and {len(missing) - 1} more", split_file.REMEDY
        )
