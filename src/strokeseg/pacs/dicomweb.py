"""The calling side of DICOMweb: search (QIDO-RS), retrieve (WADO-RS) and store (STOW-RS)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

import requests
from authlib.common.errors import AuthlibBaseError
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.filewriter import dcmwrite

from strokeseg.errors import NotDelivered
from strokeseg.pacs import credentials
from strokeseg.pacs.settings import DicomwebServer

Answer = TypeVar("Answer")
_CLIENT_ERRORS = (requests.RequestException, AuthlibBaseError, OSError, ValueError, KeyError, TypeError)


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


def retrieve_series(client: DICOMwebClient, server: DicomwebServer, study_uid: str, series_uid: str) -> Iterator[bytes]:
    """Retrieve the instances of a series in their stored form (WADO-RS).

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

    Yields
    ------
    bytes
        One instance as a file.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    media_types = (("application/dicom", "*"),)
    instances: Any = _request(server, lambda: client.iter_series(study_uid, series_uid, media_types=media_types))
    while (instance := _request(server, lambda: next(instances, None))) is not None:
        yield _request(server, partial(encode_file, instance))


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


def encode_file(dataset: Dataset) -> bytes:
    """Encode a data set as a file with preamble."""
    stream = BytesIO()
    if not isinstance(dataset, FileDataset):
        raise TypeError("a data set without file meta information cannot be stored unchanged")
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _request(server: DicomwebServer, request: Callable[[], Answer]) -> Answer:
    try:
        return request()
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise NotDelivered(f"{server.name}: answered {status}") from error
    except _CLIENT_ERRORS as error:
        raise NotDelivered(f"{server.name}: cannot be reached ({type(error).__name__})") from error
