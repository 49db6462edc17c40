"""The calling side of DICOMweb: search (QIDO-RS), retrieve (WADO-RS) and store (STOW-RS)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from email.message import Message
from io import BytesIO
from typing import TypeVar
from urllib.parse import quote

import requests
from authlib.common.errors import AuthlibBaseError
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset

from strokeseg.errors import NotDelivered, TooLarge
from strokeseg.pacs import credentials
from strokeseg.pacs.settings import DicomwebServer

Answer = TypeVar("Answer")
_CLIENT_ERRORS = (requests.RequestException, AuthlibBaseError, OSError, ValueError, KeyError, TypeError)
_CHUNK_BYTES = 2**20


def open_client(server: DicomwebServer) -> DICOMwebClient:
    """Open the client of a server.

    Parameters
    ----------
    server : DicomwebServer
        The server.

    Returns
    -------
    DICOMwebClient
        The client.

    Raises
    ------
    NotDelivered
        `not-delivered`, if the OIDC provider issues no token.
    UsageError
        `usage`, if a secret is missing.
    """
    logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL)  # its log lines may contain patient data
    client = _request(
        server, lambda: DICOMwebClient(server.url, session=credentials.open_session(server), timeout=server.timeout_s)
    )
    client.set_http_retry_params(retry=False)  # the outbox and the next poll retry, and log it
    return client


def search_series(client: DICOMwebClient, server: DicomwebServer, filters: dict[str, str]) -> list[Dataset]:
    """Search for series (QIDO-RS).

    Parameters
    ----------
    client : DICOMwebClient
        From :func:`open_client`.
    server : DicomwebServer
        The server.
    filters : dict of str to str
        Attribute names with the values to match.

    Returns
    -------
    list of Dataset
        One data set per series, with the attributes of its study.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    fields = [
        "NumberOfSeriesRelatedInstances",
        "SeriesDescription",
        "StudyDescription",
        "StudyDate",
        "StudyTime",
        "BodyPartExamined",
    ]
    rows = _request(server, lambda: client.search_for_series(search_filters=filters, fields=fields, get_remaining=True))
    return [Dataset.from_json(row) for row in rows]


def retrieve_series(
    client: DICOMwebClient, server: DicomwebServer, study_uid: str, series_uid: str, max_bytes: int
) -> Iterator[bytes]:
    """Retrieve the instances of a series in their stored form (WADO-RS).

    The client's own method would parse each instance, and inflate a deflated one without a limit.

    Parameters
    ----------
    client : DICOMwebClient
        From :func:`open_client`.
    server : DicomwebServer
        The server.
    study_uid : str
        Study instance UID.
    series_uid : str
        Series instance UID.
    max_bytes : int
        Limit for one instance.

    Yields
    ------
    bytes
        One instance as a file.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    TooLarge
        `too-large`.
    """
    url = f"{client.base_url.rstrip('/')}/studies/{quote(study_uid)}/series/{quote(series_uid)}"
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    session: requests.Session = client._session
    response = _request(server, lambda: session.get(url, headers=accept, stream=True, timeout=server.timeout_s))
    with response:
        _request(server, response.raise_for_status)
        parts = _split_parts(response, max_bytes)
        while (part := _request(server, lambda: next(parts, None))) is not None:
            yield part


def store_instances(client: DICOMwebClient, server: DicomwebServer, objects: Sequence[bytes]) -> None:
    """Store objects (STOW-RS).

    Parameters
    ----------
    client : DICOMwebClient
        From :func:`open_client`.
    server : DicomwebServer
        The server.
    objects : sequence of bytes
        DICOM objects, each as a file.

    Raises
    ------
    NotDelivered
        `not-delivered`, also if the server stored only some objects.
    """
    datasets = [dcmread(BytesIO(file)) for file in objects]
    answer: Dataset = _request(server, lambda: client.store_instances(datasets))
    failures = answer.get("FailedSOPSequence") or []
    if failures:
        reason = failures[0].get("FailureReason", 0)
        message = f"{server.name}: {len(failures)} of {len(objects)} objects were not stored ({reason:04X}H)"
        raise NotDelivered(message)


def _split_parts(response: requests.Response, max_bytes: int) -> Iterator[bytes]:
    """Split a multipart answer into the contents of its parts while it arrives; one without parts is yielded whole."""
    headers = Message()
    headers["Content-Type"] = response.headers.get("Content-Type", "")
    delimiter = b"\r\n--" + (headers.get_boundary() or "").encode()
    is_multipart = headers.get_content_maintype() == "multipart"
    buffer, searched, preceding = bytearray(b"\r\n"), 0, True  # what precedes the first delimiter is no part
    for chunk in response.iter_content(_CHUNK_BYTES):
        buffer += chunk
        while is_multipart and (end := buffer.find(delimiter, searched)) >= 0:
            start = buffer.find(b"\r\n\r\n", 0, end) + 4  # after the part's headers
            if start > 3 and not preceding:
                with memoryview(buffer) as view:
                    content = bytes(view[start:end])
                yield content
            del buffer[: end + len(delimiter)]
            searched, preceding = 0, False
        searched = max(0, len(buffer) - len(delimiter))
        if len(buffer) > max_bytes + _CHUNK_BYTES:
            raise TooLarge(f"an instance is larger than {max_bytes // 2**20} MiB")
    if not is_multipart:
        yield bytes(buffer[2:])
    elif not buffer.startswith(b"--"):
        raise ValueError("the answer breaks off")


def _request(server: DicomwebServer, request: Callable[[], Answer]) -> Answer:
    try:
        return request()
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise NotDelivered(f"{server.name}: answered {status}") from error
    except _CLIENT_ERRORS as error:
        raise NotDelivered(f"{server.name}: cannot be reached ({type(error).__name__})") from error
