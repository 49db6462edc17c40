"""Responses with files: with ETag and ranges, or streamed as one zip."""

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
    """Return whether the client already has the content with a tag."""
    tags = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    return f'"{tag}"' in tags or tags == ["*"]


def create_cache_headers(tag: str) -> dict[str, str]:
    """Return the headers of a response that the client may keep and must revalidate by its tag."""
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}


def send_content(request: Request, tag: str, data: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """Create the response with a small content, or 304 if the client has it.

    Parameters
    ----------
    request : Request
        The request.
    tag : str
        ETag of the content.
    data : bytes
        The content.
    media_type : str
        Its media type.
    headers : dict of str to str
        Additional headers.

    Returns
    -------
    Response
        The response.
    """
    headers = create_cache_headers(tag) | headers
    if matches_etag(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=media_type)


def send_file(request: Request, storage: Storage, key: str, file: ResultFile) -> Response:
    """Create the response with a file, or the requested range of it.

    The name in the header is one of ours and contains no text from a user.

    Parameters
    ----------
    request : Request
        The request.
    storage : Storage
        The files.
    key : str
        Key of the file.
    file : ResultFile
        Its entry in the manifest.

    Returns
    -------
    Response
        200, 206, 304 or 416.
    """
    headers = create_cache_headers(file.sha256) | {"Accept-Ranges": "bytes"}
    disposition = "inline" if file.media_type.startswith("image/") else "attachment"
    headers["Content-Disposition"] = f'{disposition}; filename="{file.name}"'
    if file.media_type.startswith("text/html"):
        headers["Content-Security-Policy"] = DOCUMENT_CSP
    if matches_etag(request, file.sha256):
        return Response(status_code=304, headers=headers)
    span = _parse_range(request, file)
    if span is None:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{file.bytes}"})
    start, stop = span
    status = 200
    if stop - start < file.bytes:
        status, headers["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{file.bytes}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=file.media_type)
    return StreamingResponse(storage.read_range(key, start, stop), status, headers, file.media_type)


def stream_zip(storage: Storage, prefix: str, files: list[ResultFile]) -> Iterator[bytes]:
    """Create a zip of files block by block, uncompressed: most of the files are compressed already.

    Parameters
    ----------
    storage : Storage
        The files.
    prefix : str
        Key of their folder.
    files : list of ResultFile
        Their entries in the manifest.

    Yields
    ------
    bytes
        The next block of the zip.
    """
    buffer = _ZipBuffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for file in files:
            with archive.open(zipfile.ZipInfo(file.name), "w", force_zip64=file.bytes >= 2**31) as entry:
                for block in storage.read_range(f"{prefix}/{file.name}", 0, file.bytes):
                    entry.write(block)
                    yield buffer.take()
    yield buffer.take()


class _ZipBuffer:
    """An output stream without seeking, whose bytes are taken as they arrive."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._blocks.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        data, self._blocks = b"".join(self._blocks), []
        return data


def _parse_range(request: Request, file: ResultFile) -> tuple[int, int] | None:
    """Return start and stop of the Range header: the whole file if it is not understood, None if it is past the end."""
    whole = (0, file.bytes)
    header = request.headers.get("range", "")
    condition = request.headers.get("if-range")
    if not header or (condition is not None and condition != f'"{file.sha256}"'):
        return whole
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return whole
    first, last = match.groups()
    if not first:
        start, stop = max(0, file.bytes - int(last)), file.bytes
    else:
        start, stop = int(first), min(file.bytes, int(last) + 1 if last else file.bytes)
    return (start, stop) if start < stop else None
