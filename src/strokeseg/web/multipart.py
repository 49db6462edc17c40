"""What comes in: multipart bodies streamed to the disk, names kept as data, and the files of a study as one."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from strokeseg.errors import EmptyInput, TooLarge, UsageError
from strokeseg.web.schemas import StudyOptions

MAX_FILES = 20_000
_MAX_FIELD_BYTES = 4096
_SUFFIX = re.compile(r"(\.nii|\.tar)?\.[a-z0-9]{1,8}$")
_FIELDS = ("name", "window", "spacing", "series", "model", "priority")


@dataclass(frozen=True)
class ReceivedFile:
    """A file that came in: where it lies under a name of ours, and what the user calls it."""

    name: str
    path: Path
    size: int
    sha256: str


def clean_text(text: str, most: int = 255) -> str:
    """Take out of a user's text what no database or page can hold: control signs, halves of signs, too much."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(sign for sign in whole if sign.isprintable())[:most].strip()


def clean_path(text: str) -> str:
    """Make a user's file name one that stays below its folder: without roots, drives and steps upwards."""
    pieces = [clean_text(piece, 200) for piece in re.split(r"[/\\]", text)]
    kept = [piece for piece in pieces if piece not in ("", ".", "..") and not re.fullmatch(r"[A-Za-z]:", piece)]
    return "/".join(kept[-8:]) or "file"


async def receive_form(request: Request, folder: Path) -> tuple[dict[str, str], list[ReceivedFile]]:
    """Stream a multipart body into files of a folder; none of it is ever whole in memory.

    Returns
    -------
    tuple of (dict of str to str, list of ReceivedFile)
        The fields that are known, and the files in their order.

    Raises
    ------
    UsageError
        `usage`, if it is no multipart body, or has a field that is too long.
    TooLarge
        `too-large`, for too many files.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise UsageError("the body is no multipart/form-data", "Send the files as parts named `files`.")
    parts = _FormParser(folder)
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        async for piece in request.stream():
            parser.write(piece)
        parser.finalize()
    except (MultipartParseError, UnicodeDecodeError):
        raise UsageError("the multipart body is damaged", "Send it again.") from None
    finally:
        parts.close()
    if not parts.ended:
        raise UsageError("the multipart body is cut off", "Send it again.")
    return parts.fields, parts.files


class _FormParser:
    """Takes a multipart parser's calls."""

    def __init__(self, folder: Path) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[ReceivedFile] = []
        self.ended = False
        self._folder = folder
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = b"", b""
        self._text = bytearray()
        self._name: str = ""
        self._file_name: str | None = None
        self._file: BinaryIO | None = None
        self._size, self._digest = 0, hashlib.sha256()

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._join("_field", data[start:end]),
            "on_header_value": lambda data, start, end: self._join("_value", data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._whole,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _join(self, which: str, data: bytes) -> None:
        setattr(self, which, getattr(self, which) + data)

    def _whole(self) -> None:
        self.ended = True

    def _begin(self) -> None:
        self._headers, self._text, self._size, self._digest = {}, bytearray(), 0, hashlib.sha256()

    def _header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        given = options.get(b"filename")
        self._file_name = None if given is None and self._name != "files" else (given or b"").decode("utf-8", "replace")
        if self._file_name is not None:
            if len(self.files) >= MAX_FILES:
                raise TooLarge(f"more than {MAX_FILES} files", "Send one series alone, or a zip.")
            self._file = (self._folder / f"part-{len(self.files):05d}").open("wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._file is None:
            self._text += piece
            if len(self._text) > _MAX_FIELD_BYTES:
                raise UsageError("a field of the form is too long", "Send files as parts with a file name.")
            return
        self._file.write(piece)
        self._digest.update(piece)
        self._size += len(piece)

    def _end(self) -> None:
        if self._file is None:
            if self._name in _FIELDS:
                self.fields[self._name] = self._text.decode("utf-8", "replace")
            return
        self._file.close()
        path, self._file = Path(self._file.name), None
        if self._name == "files":
            self.files.append(
                ReceivedFile(clean_path(self._file_name or ""), path, self._size, self._digest.hexdigest())
            )
        else:
            path.unlink()


def pack_files(files: list[ReceivedFile], folder: Path) -> Path:
    """Make one file of a study's files: itself, or an archive in which they have the user's names.

    An archive is never unpacked, so that a name in it is never a path on this machine.

    Raises
    ------
    EmptyInput
        `empty`, if there is nothing.
    """
    files = [file for file in files if file.size or len(files) == 1]
    if not files or not any(file.size for file in files):
        raise EmptyInput("no file came, or only empty ones", "Send the files as parts named `files`.")
    if len(files) == 1:
        found = _SUFFIX.search(files[0].name.lower())
        target = folder / f"study{found.group(0) if found else ''}"
        return files[0].path.rename(target)
    target, taken = folder / "study.zip", set[str]()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            name = file.name if file.name not in taken else f"{uuid4().hex[:8]}-{file.name.rsplit('/', 1)[-1]}"
            taken.add(name)
            archive.write(file.path, name)
            file.path.unlink()
    return target


def compute_fingerprint(parts: Iterable[str], options: StudyOptions) -> str:
    """Return a checksum of all that makes a study, to tell the same POST sent twice from another one."""
    digest = hashlib.sha256(StudyOptions.model_dump_json(options, include=set(StudyOptions.model_fields)).encode())
    for part in parts:
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()


def parse_reading_options(options: StudyOptions) -> dict[str, Any]:
    """Read the options that are about reading: window, spacing_mm and series, None where not given.

    Raises
    ------
    UsageError
        `usage`, if one is not of its form.
    """
    return {
        "window": _parse_numbers(options.window, 2, "window", "CENTRE,WIDTH, as 40,80", least=None),
        "spacing_mm": _parse_numbers(options.spacing, 3, "spacing", "SLICE,ROW,COLUMN in mm, as 5,0.45,0.45", least=0),
        "series": clean_text(options.series, 64) or None,
    }


def _parse_numbers(text: str, count: int, field: str, form_: str, least: float | None) -> list[float] | None:
    if not text.strip():
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    fine = len(numbers) == count and all(abs(number) < 1e5 for number in numbers)
    if not fine or (least is not None and min(numbers) <= least) or (field == "window" and numbers[1] <= 0):
        raise UsageError(f"{field}: is not of the form {form_}", f"Give {form_}, or leave it out.")
    return numbers
