"""Files to the client: with ETag, ranges, and as one zip, a piece at a time."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from strokeseg.web.auth import DOCUMENT_CSP
from strokeseg.web.schemas import ResultFile
from strokeseg.web.storage import Storage

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def matches_etag(request: Request, tag: str) -> bool:
    """Return whether the client has what a tag names."""
    asked = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    return f'"{tag}"' in asked or asked == ["*"]


def create_cache_headers(tag: str) -> dict[str, str]:
    """Return the headers of an answer that may be kept, and asked for again by its tag."""
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}


def send_content(request: Request, tag: str, data: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """Answer with a small content, or that the client has it."""
    headers = create_cache_headers(tag) | headers
    if matches_etag(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=media_type)


def send_file(request: Request, storage: Storage, key: str, known: ResultFile) -> Response:
    """Answer with a file, or the part of it that is asked for.

    The name in the header is one of ours and holds nothing that a user wrote.
    """
    headers = create_cache_headers(known.sha256) | {"Accept-Ranges": "bytes"}
    way = "inline" if known.media_type.startswith("image/") else "attachment"
    headers["Content-Disposition"] = f'{way}; filename="{known.name}"'
    if known.media_type.startswith("text/html"):
        headers["Content-Security-Policy"] = DOCUMENT_CSP
    if matches_etag(request, known.sha256):
        return Response(status_code=304, headers=headers)
    span = _parse_range(request, known)
    if span is None:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{known.bytes}"})
    start, stop = span
    status = 200
    if stop - start < known.bytes:
        status, headers["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{known.bytes}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=known.media_type)
    return StreamingResponse(storage.read_range(key, start, stop), status, headers, known.media_type)


def stream_zip(storage: Storage, prefix: str, files: list[ResultFile]) -> Iterator[bytes]:
    """Return a zip of files as it is made; nothing is compressed, since most of them are already."""
    sink = _ZipBuffer()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as made:  # type: ignore[call-overload]
        for known in files:
            with made.open(zipfile.ZipInfo(known.name), "w", force_zip64=known.bytes >= 2**31) as entry:
                for piece in storage.read_range(f"{prefix}/{known.name}", 0, known.bytes):
                    entry.write(piece)
                    yield sink.taken()
    yield sink.taken()


class _ZipBuffer:
    """A stream that cannot be gone back in, whose bytes are taken as they come."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._held.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        data, self._held = b"".join(self._held), []
        return data


def _parse_range(request: Request, known: ResultFile) -> tuple[int, int] | None:
    """Read the Range header: from and up to; the whole where none is understood, None where the file ends before."""
    whole = (0, known.bytes)
    asked = request.headers.get("range", "")
    unless = request.headers.get("if-range")
    if not asked or (unless is not None and unless != f'"{known.sha256}"'):
        return whole
    found = _RANGE.fullmatch(asked.replace(" ", ""))
    if found is None or found.groups() == ("", ""):
        return whole
    first, last = found.groups()
    if not first:
        start, stop = max(0, known.bytes - int(last)), known.bytes
    else:
        start, stop = int(first), min(known.bytes, int(last) + 1 if last else known.bytes)
    return (start, stop) if start < stop else None
