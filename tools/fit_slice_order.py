"""Fit the weights of the slice order (strokeseg.reading.pictures.slice_order), and print them with their errors.

    python -m tools.fit_slice_order --data FOLDER

The stacks are those of CT-ICH that may be trained on, and of PHE-SICH; both run from the skull base to the vertex. Each
also gives parts of it, of a quarter of its slices or more. Errors are those on the set that was not fitted.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from strokeseg.reading import read_one
from strokeseg.reading.pictures import slice_order

PARTS = 6
Areas = list[NDArray[np.float64]]


def read_areas(folder: Path, patients: list[str]) -> Areas:
    """Measure the stacks of a set in the order of their files."""
    scans = (read_one(folder / patient, order="lowest-first") for patient in patients)
    return [slice_order.measure_areas(scan.hu, scan.window) for scan in scans]


def cut_parts(areas: NDArray[np.float64], rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Cut a stack into random parts.

    Parameters
    ----------
    areas : ndarray of float64, shape (slices, 4)
        Areas of the slices.
    rng : Generator
        Draws the parts.

    Yields
    ------
    ndarray of float64, shape (slices, 4)
        The whole stack, then the parts.
    """
    yield areas
    for _ in range(PARTS):
        count = int(rng.integers(max(5, len(areas) // 4), len(areas) + 1))
        first = int(rng.integers(0, len(areas) - count + 1))
        yield areas[first : first + count] / max(areas[first : first + count, 0].max(), 1e-6)


def make_table(sets: list[Areas], parts: bool = True) -> NDArray[np.float64]:
    """Collect the evidence of all stacks and parts, one row each."""
    rng = np.random.default_rng(0)
    stacks = [part for areas in sets for stack in areas for part in (cut_parts(stack, rng) if parts else [stack])]
    return np.array([slice_order.collect_evidence(stack) for stack in stacks])


def fit(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit the weights; each stack is also given reversed."""
    both = np.concatenate([table, -table])
    truth = np.repeat([1, 0], len(table))
    return np.asarray(LogisticRegression(C=3, fit_intercept=False, max_iter=1000).fit(both, truth).coef_[0])


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    data = parser.parse_args().data
    with (data / "ctich/index.csv").open() as lines:
        trained = sorted({row["patient"] for row in csv.DictReader(lines) if row["role"] == "train"})
    with (data / "phe_sich/index.csv").open() as lines:
        spontaneous = sorted({row["patient"] for row in csv.DictReader(lines)})
    sets = {"ctich": read_areas(data / "ctich", trained), "phe_sich": read_areas(data / "phe_sich", spontaneous)}
    limit = np.log(slice_order.SURE_AT / (1 - slice_order.SURE_AT))
    for name, left_out in sets.items():
        weights = fit(make_table([areas for other, areas in sets.items() if other != name]))
        for kind, parts in (("whole stacks", False), ("whole stacks and parts", True)):
            odds = make_table([left_out], parts) @ weights
            print(
                f"{name}, {kind}: {len(odds)}, sure and right {np.mean(odds >= limit):.3f}, "
                f"undecided {np.mean(np.abs(odds) < limit):.3f}, sure and wrong {np.mean(odds <= -limit):.3f}"
            )
    for name, weight in zip(slice_order.EVIDENCE, fit(make_table(list(sets.values()))), strict=True):
        print(f"{name}: {weight:.2f}")


if __name__ == "__main__":
    main()
