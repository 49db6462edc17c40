"""DICOMweb, the calling side: what is new (QIDO-RS), fetch (WADO-RS), store (STOW-RS)."""

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


def open_client(web: DicomwebServer) -> DICOMwebClient:
    """Return the client of a server.

    Raises
    ------
    NotDelivered
        `not-delivered`, if the OIDC provider gives no token.
    UsageError
        `usage`, if a secret is not there.
    """
    logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL)  # its lines may quote a patient
    client = _request(
        web, lambda: DICOMwebClient(web.url, session=credentials.open_session(web), timeout=web.timeout_s)
    )
    client.set_http_retry_params(retry=False)  # the outbox and the next poll try again, and say so
    return client


def search_series(client: DICOMwebClient, web: DicomwebServer, filters: dict[str, str]) -> list[Dataset]:
    """Return the series that fit (QIDO-RS), each with the attributes of its study that a search gives.

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
    found = _request(web, lambda: client.search_for_series(search_filters=filters, fields=fields, get_remaining=True))
    return [Dataset.from_json(item) for item in found]


def retrieve_series(client: DICOMwebClient, web: DicomwebServer, study_uid: str, series_uid: str) -> Iterator[bytes]:
    """Fetch a series' instances as they are stored (WADO-RS), one after the other, each as a whole file.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    kinds = (("application/dicom", "*"),)
    found: Any = _request(web, lambda: client.iter_series(study_uid, series_uid, media_types=kinds))
    while (one := _request(web, lambda: next(found, None))) is not None:
        yield _request(web, partial(encode_file, one))


def store_instances(client: DICOMwebClient, web: DicomwebServer, objects: Sequence[bytes]) -> None:
    """Store objects, each a whole file (STOW-RS).

    Raises
    ------
    NotDelivered
        `not-delivered`, also if the server took only some.
    """
    datasets = [dcmread(BytesIO(file)) for file in objects]
    answer: Dataset = _request(web, lambda: client.store_instances(datasets))
    failed = answer.get("FailedSOPSequence") or []
    if failed:
        reason = failed[0].get("FailureReason", 0)
        raise NotDelivered(f"{web.name}: {len(failed)} of {len(objects)} objects were not stored ({reason:04X}H)")


def encode_file(dataset: Dataset) -> bytes:
    """Return a data set as a whole file with preamble."""
    stream = BytesIO()
    if not isinstance(dataset, FileDataset):
        raise TypeError("a data set without its file meta group cannot be stored as it came")
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def _request(web: DicomwebServer, ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise NotDelivered(f"{web.name}: answered {status}") from error
    except _CLIENT_ERRORS as error:
        raise NotDelivered(f"{web.name}: cannot be reached ({type(error).__name__})") from error
