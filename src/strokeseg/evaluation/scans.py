"""Find whole scans and their masks in a folder that holds a scan for each patient.

A scan is whatever `strokeseg segment` reads: a folder of pictures or DICOM files, an archive, a volume. It lies in
``FOLDER/images`` if that exists, otherwise in ``FOLDER``. Its mask is one of:

- ``FOLDER/masks/NAME/``, pictures named like those of the scan, on the slices with blood
- ``FOLDER/masks/NAME.nii.gz``, on the pixels of the scan
- ``NAME_mask.nii.gz`` (or ``_seg``, ``_label``) beside the volume, or ``mask.nii.gz`` inside the folder of the scan

A scan without a mask must be listed in ``FOLDER/index.csv`` with ``patient`` and ``blood`` 0.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from strokeseg.errors import TrainError
from strokeseg.evaluation.image_files import VOLUME_ENDINGS, get_stem, is_volume
from strokeseg.evaluation.pairs import MASK_ENDING
from strokeseg.evaluation.patients import patient_lookup
from strokeseg.evaluation.scan_reference import make_empty_reference, read_picture_masks, read_volume_mask
from strokeseg.evaluation.scan_row import Reference
from strokeseg.reading import input_file
from strokeseg.reading.pictures.picture_stack import natural_sort_key
from strokeseg.reading.volumes import volume_file
from strokeseg.scan import Scan

ReferenceReader = Callable[[Scan], Reference]


@dataclass(frozen=True)
class ScanCase:
    """A whole scan and its annotation.

    Attributes
    ----------
    name : str
        Name of the scan: of its folder or file, without extension.
    image : Path
        What is given to `strokeseg segment`.
    patient : str
        The patient; scans of one patient are always drawn together.
    read_reference : callable
        Reads the annotation onto the pixels of the scan.
    blood : bool, optional
        Whether the scan holds blood; by default whether a pixel is annotated.
    """

    name: str
    image: Path
    patient: str
    read_reference: ReferenceReader
    blood: bool | None = None


def find_scans(
    folder: str | Path,
    images: str = "images",
    masks: str = "masks",
    patient: str | None = None,
    ignore: int | None = None,
    role: str | None = None,
) -> list[ScanCase]:
    """Find the scans of a folder, in the natural order of their names.

    Parameters
    ----------
    folder : str or Path
        The folder, see the module.
    images, masks : str
        Names of the folders of scans and masks.
    patient : str, optional
        As in :func:`strokeseg.evaluation.pairs.find_pairs`. By default each scan is a patient of its own.
    ignore : int, optional
        Value in the masks for unknown pixels.
    role : str, optional
        Only the scans with this ``role`` in ``index.csv``; others are not opened.

    Returns
    -------
    list of ScanCase
        The scans.

    Raises
    ------
    TrainError
        `train`, if there is no scan, a scan has neither a mask nor a row with ``blood`` 0, or a role is asked for and
        ``index.csv`` has no such column or no row for a scan.
    """
    folder = Path(folder)
    root = folder / images if (folder / images).is_dir() else folder
    entries = _list_scans(root, {masks})
    index = _read_index(folder / "index.csv")
    if role is not None:
        entries = {name: path for name, path in entries.items() if _get_role(index, name) == role}
    if not entries:
        raise TrainError(
            f"{folder}: no scan" + (f" with the role {role}" if role else ""),
            "Give a folder that holds a folder or a volume for each patient; see docs/metrics.md.",
        )
    get_patient = patient_lookup(folder, patient) if patient else None
    cases = []
    for name, path in entries.items():
        image, mask = _find_mask(folder / masks, path, name)
        has_blood = _get_blood(index, name)
        if mask is None and has_blood is not False:
            raise TrainError(
                f"{name}: no mask, and index.csv does not say that it has no blood",
                "Add a mask, a row with patient and blood 0, or name a folder of scans without blood with --normals.",
            )
        reader = _make_reader(image, mask, ignore)
        cases.append(ScanCase(name, image, get_patient(path) if get_patient else name, reader, has_blood))
    return cases


def find_scans_without_blood(folder: str | Path, patient: str | None = None) -> list[ScanCase]:
    """Find scans without blood, which need no masks, in the natural order of their names.

    Parameters
    ----------
    folder : str or Path
        Holds a scan for each patient.
    patient : str, optional
        As in :func:`find_scans`.

    Returns
    -------
    list of ScanCase
        The scans.

    Raises
    ------
    TrainError
        `train`, if there is no scan.
    """
    folder = Path(folder)
    entries = _list_scans(folder, set())
    if not entries:
        raise TrainError(f"{folder}: no scan", "Give a folder that holds a folder or a volume for each patient.")
    get_patient = patient_lookup(folder, patient) if patient else None
    return [
        ScanCase(name, path, get_patient(path) if get_patient else name, make_empty_reference, False)
        for name, path in entries.items()
    ]


def _list_scans(root: Path, left_out: set[str]) -> dict[str, Path]:
    """List folders, volumes and archives by name; masks beside volumes are left out."""
    if not root.is_dir():
        raise TrainError(f"{root}: no such folder", "Give a folder that holds a scan for each patient.")
    scans: dict[str, Path] = {}
    for path in sorted(root.iterdir(), key=lambda path: natural_sort_key(path.name)):
        is_scan = path.is_dir() or _is_volume_or_archive(path)
        if path.name.startswith(".") or path.name in left_out or not is_scan:
            continue
        name = path.name if path.is_dir() else _get_name(path)
        if MASK_ENDING.match(name):
            continue
        if name in scans:
            raise TrainError(f"{root.name}: {scans[name].name} and {path.name} have the same name", "Keep one of them.")
        scans[name] = path
    return scans


def _is_volume_or_archive(path: Path) -> bool:
    return path.name.lower().endswith(volume_file.ENDINGS) or input_file.has_archive_name(path.name)


def _get_name(path: Path) -> str:
    return get_stem(path.name) if is_volume(path) else path.name.split(".")[0]


def _find_mask(masks: Path, path: Path, name: str) -> tuple[Path, Path | None]:
    """Return what is to be segmented, and its mask."""
    if (masks / name).is_dir():
        return path, masks / name
    beside = [masks / (name + ending) for ending in VOLUME_ENDINGS]
    if not path.is_dir():
        beside += [path.with_name(f"{name}_{kind}{end}") for kind in ("mask", "seg", "label") for end in VOLUME_ENDINGS]
    for mask in beside:
        if mask.is_file():
            return path, mask
    if path.is_dir():
        volumes = [file for file in sorted(path.iterdir()) if file.name.lower().endswith(volume_file.ENDINGS)]
        inside = [file for file in volumes if is_volume(file) and MASK_ENDING.match(f"x_{get_stem(file.name)}")]
        if len(inside) == 1:
            others = [file for file in volumes if file != inside[0]]
            return others[0] if len(others) == 1 else path, inside[0]
    return path, None


def _make_reader(image: Path, mask: Path | None, ignore: int | None) -> ReferenceReader:
    if mask is None:
        return make_empty_reference
    if mask.is_dir():
        return partial(read_picture_masks, path=image, masks=mask, ignore=ignore)
    return partial(read_volume_mask, mask=mask, ignore=ignore)


def _read_index(path: Path) -> dict[str, list[dict[str, str]]]:
    """Read the rows of index.csv by patient; a patient may have a row for each slice."""
    if not path.is_file():
        return {}
    rows: dict[str, list[dict[str, str]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            for row in csv.DictReader(stream):
                if row.get("patient"):
                    rows.setdefault(row["patient"], []).append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainError(f"{path}: not a readable table: {error}", "Save it as CSV in UTF-8.") from None
    return rows


def _get_role(index: dict[str, list[dict[str, str]]], name: str) -> str:
    roles = {row.get("role") or "" for row in index.get(name, [])} - {""}
    if len(roles) != 1:
        raise TrainError(f"index.csv has no role for {name}, or several", "Give every patient one role, or no --role.")
    return roles.pop()


def _get_blood(index: dict[str, list[dict[str, str]]], name: str) -> bool | None:
    """Return whether the scan of a patient holds blood, or None if index.csv does not say."""
    values = {row.get("blood") for row in index.get(name, [])}
    return {"0": False, "1": True}.get(values.pop() or "") if len(values) == 1 else None
