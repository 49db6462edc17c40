"""The files and options of a study to be created: names, fingerprint, and packing into one file."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from strokeseg.errors import EmptyInput, UsageError
from strokeseg.scan_options import parse_order, parse_spacing, parse_window
from strokeseg.segmentation.decision_options import DecisionOptions
from strokeseg.web.schemas import StudyOptions

_Value = TypeVar("_Value")

_SUFFIX = re.compile(r"(\.nii|\.tar)?\.[a-z0-9]{1,8}$")


@dataclass(frozen=True)
class ReceivedFile:
    """A received file.

    Attributes
    ----------
    name : str
        The user's name for it, made safe; may be a relative path.
    path : Path
        Where it is stored, under a name of ours.
    size : int
        Size, bytes.
    sha256 : str
        Checksum, hexadecimal.
    """

    name: str
    path: Path
    size: int
    sha256: str


def clean_text(text: str, max_length: int = 255) -> str:
    """Remove control characters, lone surrogates and excess length from a user's text."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(character for character in whole if character.isprintable())[:max_length].strip()


def clean_path(text: str) -> str:
    """Turn a user's file name into a relative path without roots, drives and "..", at most eight levels deep."""
    parts = [clean_text(part, 200) for part in re.split(r"[/\\]", text)]
    safe = [part for part in parts if part not in ("", ".", "..") and not re.fullmatch(r"[A-Za-z]:", part)]
    return "/".join(safe[-8:]) or "file"


def pack_files(files: list[ReceivedFile], folder: Path) -> Path:
    """Combine a study's files into one: the only file itself, or an archive with the user's names.

    The archive is never unpacked, so that a name in it never becomes a path on this machine.

    Parameters
    ----------
    files : list of ReceivedFile
        The files; empty ones are left out.
    folder : Path
        Where the result is written.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    EmptyInput
        `empty`, if there is no content.
    """
    files = [file for file in files if file.size or len(files) == 1]
    if not files or not any(file.size for file in files):
        raise EmptyInput("the request contains no file, or only empty ones", "Send the files as parts named `files`.")
    if len(files) == 1:
        suffix = _SUFFIX.search(files[0].name.lower())
        target = folder / f"study{suffix.group(0) if suffix else ''}"
        return files[0].path.rename(target)
    target, used = folder / "study.zip", set[str]()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            name = file.name if file.name not in used else f"{uuid4().hex[:8]}-{file.name.rsplit('/', 1)[-1]}"
            used.add(name)
            archive.write(file.path, name)
            file.path.unlink()
    return target


def compute_fingerprint(parts: Iterable[str], options: StudyOptions) -> str:
    """Return a checksum of the content of a request, to tell a repeated request from a different one.

    Parameters
    ----------
    parts : iterable of str
        Identifies the files.
    options : StudyOptions
        The options.

    Returns
    -------
    str
        Checksum, hexadecimal.
    """
    digest = hashlib.sha256(StudyOptions.model_dump_json(options, include=set(StudyOptions.model_fields)).encode())
    for part in parts:
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()


def parse_study_options(options: StudyOptions) -> dict[str, Any]:
    """Parse the options that concern reading and the answer.

    Parameters
    ----------
    options : StudyOptions
        The options as text.

    Returns
    -------
    dict of str to object
        "window", "spacing_mm", "order", "series", "operating_point", "threshold" and "smallest_ml"; None for those not
        set.

    Raises
    ------
    UsageError
        `usage`, if one is malformed.
    """
    decision = DecisionOptions(
        options.operating_point.strip() or "balanced",
        _parse("threshold", options.threshold, float),
        _parse("smallest_ml", options.smallest_ml, float),
    )
    return {
        "window": _parse_numbers("window", options.window, parse_window),
        "spacing_mm": _parse_numbers("spacing", options.spacing, parse_spacing),
        "order": _parse("order", options.order, parse_order),
        "series": clean_text(options.series, 64) or None,
        "operating_point": decision.operating_point if options.operating_point.strip() else None,
        "threshold": decision.threshold,
        "smallest_ml": decision.smallest_ml,
    }


def _parse_numbers(field: str, text: str, parse: Callable[[str], tuple[float, ...]]) -> list[float] | None:
    numbers = _parse(field, text, parse)
    return None if numbers is None else list(numbers)


def _parse(field: str, text: str, parse: Callable[[str], _Value]) -> _Value | None:
    if not text.strip():
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{field}: {error}", "Correct it, or leave it out.") from None
