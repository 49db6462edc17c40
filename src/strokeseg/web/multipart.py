"""Multipart request bodies, streamed to the disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from strokeseg.errors import TooLarge, UsageError
from strokeseg.web.body_stream import iterate_blocks
from strokeseg.web.study_files import ReceivedFile, clean_path

MAX_FILES = 20_000
_MAX_FIELD_BYTES = 4096
_FIELDS = (
    "name",
    "window",
    "spacing",
    "order",
    "series",
    "operating_point",
    "threshold",
    "smallest_ml",
    "model",
    "priority",
)


async def receive_form(
    request: Request, folder: Path, count: Callable[[int], None]
) -> tuple[dict[str, str], list[ReceivedFile]]:
    """Stream a multipart body into the files of a folder; it is never in memory as a whole.

    Parameters
    ----------
    request : Request
        The request.
    folder : Path
        Folder for the files.
    count : callable
        Called in a thread with the size of each block before it is written; may raise an error.

    Returns
    -------
    fields : dict of str to str
        The known fields.
    files : list of ReceivedFile
        The files in their order.

    Raises
    ------
    UsageError
        `usage`, if it is no multipart body, or a field is too long.
    TooLarge
        `too-large`, for too many files.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise UsageError("the body is not multipart/form-data", "Send the files as parts named `files`.")
    form = _FormParser(folder)
    try:
        parser = MultipartParser(boundary, form.get_callbacks())  # type: ignore[arg-type]

        def write(block: bytes) -> None:
            count(len(block))
            parser.write(block)

        async for block in iterate_blocks(request):
            await asyncio.to_thread(write, block)
        parser.finalize()
    except (MultipartParseError, UnicodeDecodeError):
        raise UsageError("the multipart body is malformed", "Send it again.") from None
    finally:
        form.close()
    if not form.is_complete:
        raise UsageError("the multipart body is incomplete", "Send it again.")
    return form.fields, form.files


class _FormParser:
    """Handles the callbacks of a multipart parser."""

    def __init__(self, folder: Path) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[ReceivedFile] = []
        self.is_complete = False
        self._folder = folder
        self._headers: dict[bytes, bytes] = {}
        self._header_name, self._header_value = b"", b""
        self._text = bytearray()
        self._name: str = ""
        self._file_name: str | None = None
        self._file: BinaryIO | None = None
        self._size, self._digest = 0, hashlib.sha256()

    def get_callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._append("_header_name", data[start:end]),
            "on_header_value": lambda data, start, end: self._append("_header_value", data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._finish_headers,
            "on_part_data": self._write_data,
            "on_part_end": self._end_part,
            "on_end": self._complete,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _append(self, attribute: str, data: bytes) -> None:
        setattr(self, attribute, getattr(self, attribute) + data)

    def _complete(self) -> None:
        self.is_complete = True

    def _begin_part(self) -> None:
        self._headers, self._text, self._size, self._digest = {}, bytearray(), 0, hashlib.sha256()

    def _end_header(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _finish_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        name = options.get(b"filename")
        self._file_name = None if name is None and self._name != "files" else (name or b"").decode("utf-8", "replace")
        if self._file_name is not None:
            if len(self.files) >= MAX_FILES:
                raise TooLarge(f"more than {MAX_FILES} files", "Send a single series, or a zip.")
            self._file = (self._folder / f"part-{len(self.files):05d}").open("wb")

    def _write_data(self, data: bytes, start: int, end: int) -> None:
        block = data[start:end]
        if self._file is None:
            self._text += block
            if len(self._text) > _MAX_FIELD_BYTES:
                raise UsageError("a form field is too long", "Send files as parts with a file name.")
            return
        self._file.write(block)
        self._digest.update(block)
        self._size += len(block)

    def _end_part(self) -> None:
        if self._file is None:
            if self._name in _FIELDS:
                self.fields[self._name] = self._text.decode("utf-8", "replace")
            return
        self._file.close()
        path, self._file = Path(self._file.name), None
        if self._name == "files":
            name = clean_path(self._file_name or "")
            self.files.append(ReceivedFile(name, path, self._size, self._digest.hexdigest()))
        else:
            path.unlink()
