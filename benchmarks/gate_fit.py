"""Fit the model by which the gate tells a head on a slice: `python -m benchmarks gate --fit`.

Slices of heads are those of the data sets (of CT-ICH the role train), as they are and changed at random, and synthetic
ellipsoids. Slices without a head are drawn, of the kinds that are not held out, and read from a folder of further
files. Only slices are used that have brain-range tissue inside a ring of bone: the others never reach the model.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks import head_variants, non_heads
from strokeseg.errors import InputError
from strokeseg.reading import gate
from strokeseg.reading import read as read_scans
from strokeseg.reading.head_detection import (
    MIN_TISSUE_AREA_SHARE,
    TissueThresholds,
    find_enclosed_tissue,
    sample_slice_indices,
)
from strokeseg.reading.head_evidence import FEATURES, measure_features
from strokeseg.scan import Scan

MODEL = Path("src/strokeseg/reading/head_model.json")
PICTURE_SETS = (
    "bhsd_mini/images_hu0_255/*.png",
    "mbhseg25_mini/images_hu0_255/*.png",
    "cpaisd_ischemic_mini/images_hu0_255/*.png",
    "rsna_hemseg/images/*.png",
    "head_ct_hemorrhage/images_227/*.png",
    "head_ct_hemorrhage/images_unmasked/*.png",
    "ctich_train/images/*.jpg",
    "ctich_boxes/images/*.jpg",
    "bhsd_slices/images/*.png",
    "phe_sich_clots/images/*.jpg",
    "rsna_sdh_boxes/images/*",
    "phe_sich/[0-9]*/*.jpg",
    "phe_sich_stacks/*/images/*",
)
"""Single slices."""
VOLUMES = ("rsna_volume/series.zip", "ge_head_dicom/series.zip", "cranium/cranium_hu.nii.gz")
_WINDOWS = {"ctich": (40.0, 120.0), "phe_sich": (40.0, 80.0)}
_DRAWN = {"abdomens and pelvises": 160, "screenshots": 320, "photographs": 200, "test patterns and noise": 160}
_DRAWN_OF_OTHERS = 80
_FIRST_SEED = 1000  # the benchmark draws with seeds from 0
_TREES, _DEPTH, _RATE = 200, 4, 0.1


@dataclass(frozen=True)
class Sample:
    """Features of one slice.

    Attributes
    ----------
    features : ndarray of float64
        Of :data:`strokeseg.reading.head_evidence.FEATURES`.
    is_head : bool
        Whether it shows a head.
    source : str
        Its data set or kind.
    group : str
        Its patient, scan or drawing.
    """

    features: NDArray[np.float64]
    is_head: bool
    source: str
    group: str


def collect(data: Path, further: Path | None, jobs: int, log: Callable[[str], None]) -> list[Sample]:
    """Collect the samples.

    Parameters
    ----------
    data : Path
        Folder of the data sets.
    further : Path, optional
        Folder of files without a head, one folder for each kind.
    jobs : int
        Number of processes.
    log : callable
        Is called with a line of text for each source.

    Returns
    -------
    list of Sample
        One for each slice with tissue inside a ring of bone.
    """
    tasks: list[tuple[Callable[..., list[Sample]], tuple[object, ...]]] = []
    paths = [path for pattern in PICTURE_SETS for path in sorted(data.glob(pattern))]
    stacks = find_training_slices(data)
    tasks += [(_measure_pictures, (part, data)) for part in _split(paths + stacks, 150)]
    pseudo = [*stacks[::8], *sorted(data.glob("phe_sich/[0-9]*/*.jpg"))[::12]]
    tasks += [(_measure_rebuilt, (part,)) for part in _split(pseudo, 40)]
    tasks += [(_measure_volume, (data / name,)) for name in VOLUMES]
    tasks += [(_measure_synthetic_heads, ())]
    kinds = [kind for kind in non_heads.KINDS if kind not in non_heads.HELD_OUT]
    tasks += [
        (_measure_drawn, (kind, first)) for kind in kinds for first in range(0, _DRAWN.get(kind, _DRAWN_OF_OTHERS), 20)
    ]
    if further is not None:
        tasks += [(_measure_further, (part, further)) for part in _split(_list_files(further), 20)]
    samples: list[Sample] = []
    with ProcessPoolExecutor(jobs) as pool:
        for (function, arguments), future in [(task, pool.submit(task[0], *task[1])) for task in tasks]:
            samples += future.result()
            log(f"{function.__name__} {str(arguments)[:60]}: {len(samples)} samples")
    return samples


def find_training_slices(data: Path) -> list[Path]:
    """Return the slices of the CT-ICH patients of role train."""
    with (data / "ctich/index.csv").open() as stream:
        patients = {row["patient"].zfill(3) for row in csv.DictReader(stream) if row["role"] == "train"}
    return [path for path in sorted(data.glob("ctich/[0-9]*/*.jpg")) if path.parent.name in patients]


def _split(paths: list[Path], size: int) -> Iterator[list[Path]]:
    return (paths[first : first + size] for first in range(0, len(paths), size))


def _list_files(folder: Path) -> list[Path]:
    """Return files and folders of slices, two levels below a folder."""
    return sorted(path for path in folder.glob("*/*"))


def read_unchecked(path: Path) -> list[Scan]:
    """Read scans without the checks of the gate; none if the path cannot be read."""
    checked = gate.check_scan
    gate.check_scan = gate.fill_padding
    try:
        return read_scans(path)
    except InputError:
        return []
    finally:
        gate.check_scan = checked


def _get_thresholds(scan: Scan) -> TissueThresholds:
    return TissueThresholds.for_window(*scan.window) if scan.window else TissueThresholds.for_hounsfield()


def _measure(planes: Iterable[NDArray[np.int16]], thresholds: TissueThresholds) -> Iterator[NDArray[np.float64]]:
    for plane in planes:
        tissue = find_enclosed_tissue(plane, thresholds, MIN_TISSUE_AREA_SHARE)
        if tissue is not None and tissue.is_head_like:
            yield measure_features(tissue, thresholds)


def _measure_with_copies(
    planes: Iterable[NDArray[np.int16]], thresholds: TissueThresholds
) -> Iterator[NDArray[np.float64]]:
    """Measure slices, and of those with tissue inside a ring of bone four randomly changed copies."""
    for number, plane in enumerate(planes):
        found = list(_measure([plane], thresholds))
        rng = np.random.default_rng([number, plane.size])
        yield from found
        if found:
            yield from _measure((_round(head_variants.augment(rng, plane)) for _ in range(4)), thresholds)


def _round(plane: NDArray[np.floating]) -> NDArray[np.int16]:
    return np.rint(plane).clip(-3000, 32000).astype(np.int16)


def _measure_pictures(paths: list[Path], data: Path) -> list[Sample]:
    samples = []
    for path in paths:
        names = path.relative_to(data).parts
        group = names[0] + (names[1] if names[0] in ("ctich", "phe_sich") else path.stem[:6])
        for scan in read_unchecked(path):
            samples += [Sample(each, True, names[0], group) for each in _measure(scan.hu, _get_thresholds(scan))]
    return samples


def _measure_rebuilt(paths: list[Path]) -> list[Sample]:
    """Rebuild Hounsfield units of windowed slices: bone where they are white, air and fat where they are black."""
    samples = []
    for path in paths:
        rng = np.random.default_rng(sum(str(path.name).encode()))
        name = path.parent.parent.name
        centre, width = _WINDOWS[name]
        grey = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
        hu = centre - width / 2 + grey / 255 * width
        white = ndimage.binary_opening(grey > 244)
        hu[white] = 400 + 60 * np.minimum(ndimage.distance_transform_edt(white)[white], 12)
        labels, count = ndimage.label(grey < 10)
        if count:
            outside = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
            near = ndimage.binary_dilation(outside, iterations=12)
            hu[(grey < 10) & near] = -90
            hu[outside] = -1000
        changed = head_variants.augment(rng, hu)
        windowed = head_variants.augment(rng, hu).clip(centre - width / 2, centre + width / 2)
        for plane, thresholds in (
            (hu, TissueThresholds.for_hounsfield()),
            (changed, TissueThresholds.for_hounsfield()),
            (windowed, TissueThresholds.for_window(centre, width)),
        ):
            found = _measure([_round(plane)], thresholds)
            samples += [Sample(each, True, f"rebuilt {name}", name + path.parent.name) for each in found]
    return samples


def _measure_volume(path: Path) -> list[Sample]:
    samples = []
    rng = np.random.default_rng(7)
    for scan in read_unchecked(path):
        thresholds = _get_thresholds(scan)
        for index, plane in enumerate(scan.hu):
            planes = [plane]
            if any(True for _ in _measure([plane], thresholds)):
                planes += [_round(head_variants.augment(rng, plane)) for _ in range(3)]
            samples += [
                Sample(each, True, path.parent.name, f"{path.parent.name} {index // 6}")
                for each in _measure(planes, thresholds)
            ]
        for name, variant in head_variants.make_variants(scan).items():
            samples += [
                Sample(each, True, f"variant of {path.parent.name}", f"{path.parent.name} {name}")
                for each in _measure(variant.hu, thresholds)
            ]
    return samples


def _measure_synthetic_heads() -> list[Sample]:
    """Measure ellipsoids of bone around one tissue: the heads whose volumes are known, by which programs are tested."""
    samples = []
    for pixel_mm, side in ((1.1, 170), (0.45, 512), (0.9, 256)):
        across = (np.arange(side) - side / 2 + 0.5) * pixel_mm
        y, x = np.meshgrid(across, across, indexing="ij")
        for z in range(-80, 85, 8):
            hu = np.full(x.shape, -1000.0)
            for semiaxes, value in (((74.0, 92.0, 95.0), 1000.0), ((66.0, 84.0, 87.0), 35.0)):
                hu[(x / semiaxes[0]) ** 2 + (y / semiaxes[1]) ** 2 + (z / semiaxes[2]) ** 2 <= 1] = value
            hu[((x - 24) / 18) ** 2 + ((y + 14) / 22) ** 2 + ((z - 9) / 21) ** 2 <= 1] = 65
            planes = [_round(hu), _round(hu + np.random.default_rng(z + 99).normal(0, 6, hu.shape))]
            found = _measure(planes, TissueThresholds.for_hounsfield())
            samples += [Sample(each, True, "synthetic heads", f"ellipsoid {z}") for each in found]
    return samples


def _measure_drawn(kind: str, first: int) -> list[Sample]:
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(_FIRST_SEED + first, _FIRST_SEED + first + 20):
            path = non_heads.draw(kind, number, Path(folder))
            for scan in read_unchecked(path):
                group = f"{kind} {number}"
                found = _measure_with_copies(scan.hu[sample_slice_indices(len(scan.hu), 12)], _get_thresholds(scan))
                samples += [Sample(each, False, kind, group) for each in found]
    return samples


def _measure_further(paths: list[Path], folder: Path) -> list[Sample]:
    samples = []
    for path in paths:
        kind = path.relative_to(folder).parts[0]
        for scan in read_unchecked(path):
            found = _measure_with_copies(scan.hu[sample_slice_indices(len(scan.hu), 60)], _get_thresholds(scan))
            samples += [Sample(each, False, f"further {kind}", str(path.relative_to(folder))) for each in found]
    return samples


def fit(samples: list[Sample]) -> dict[str, object]:
    """Fit boosted decision trees, with equal weight for heads and others.

    Parameters
    ----------
    samples : list of Sample
        From :func:`collect`.

    Returns
    -------
    dict
        The content of head_model.json.
    """
    features = np.stack([sample.features for sample in samples])
    is_head = np.array([sample.is_head for sample in samples])
    model = make_classifier()
    model.fit(features, is_head, sample_weight=weigh(is_head))
    return export(model, features)


def make_classifier() -> Any:
    """Return the classifier of scikit-learn that is fitted."""
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(
        n_estimators=_TREES, max_depth=_DEPTH, learning_rate=_RATE, subsample=0.6, max_features=9, random_state=0
    )


def weigh(is_head: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return weights that give heads and others the same sum."""
    return np.where(is_head, 1.0, is_head.sum() / max(1, (~is_head).sum()))


def export(model: object, features: NDArray[np.float64]) -> dict[str, object]:
    """Export the trees as plain numbers; a leaf has feature -1."""
    estimators = model.estimators_[:, 0]  # type: ignore[attr-defined]
    trees = []
    for tree in (estimator.tree_ for estimator in estimators):
        is_leaf = tree.children_left < 0
        trees.append(
            {
                "feature": np.where(is_leaf, -1, tree.feature).tolist(),
                "threshold": [float(f"{each:.6g}") for each in np.where(is_leaf, 0, tree.threshold)],
                "left": tree.children_left.tolist(),
                "right": tree.children_right.tolist(),
                "value": [round(float(each), 5) for each in np.where(is_leaf, tree.value[:, 0, 0] * _RATE, 0)],
            }
        )
    raw = float(model._raw_predict_init(features[:1])[0, 0])  # type: ignore[attr-defined]
    return {"features": list(FEATURES), "depth": _DEPTH, "bias": round(raw, 5), "trees": trees}


def format_model(model: dict[str, object]) -> str:
    """Format head_model.json with one line for each tree."""
    trees = ",\n  ".join(json.dumps(tree) for tree in model["trees"])  # type: ignore[attr-defined]
    head = ",\n ".join(f'"{name}": {json.dumps(value)}' for name, value in model.items() if name != "trees")
    return f'{{\n {head},\n "trees": [\n  {trees}\n ]\n}}\n'
