"""Patients on one side only: which samples train and which validate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from strokeseg.train.augment import Stored


def validation_patients(samples: Iterable[Stored], sources: Sequence[str], share: float, seed: int) -> frozenset[str]:
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


def split(samples: Sequence[Stored], validation: frozenset[str]) -> tuple[list[Stored], list[Stored]]:
    """Part the samples into training and validation; a patient's slices of every source stay together.

    Boxed slices never validate: a box is no outline.
    """
    training = [sample for sample in samples if sample.patient not in validation]
    held_out = [sample for sample in samples if sample.patient in validation and not sample.boxed]
    return training, held_out
