"""Find a patient's earlier head CT in an archive and fetch it for comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pydicom.dataset import Dataset

from strokeseg.errors import NotDelivered, TooLarge
from strokeseg.pacs import dicomweb, query_retrieve
from strokeseg.pacs.instance_files import parse_instance
from strokeseg.pacs.scp import CANNOT_UNDERSTAND, SUCCESS
from strokeseg.pacs.settings import DicomwebServer, NodeSettings, Peer
from strokeseg.pacs.spool import ReceivedInstance, Spool

_HEAD_PATTERN = re.compile(r"head|brain|neuro|skull|cran|sch(ä|ae)del|kopf|t[êe]te|cereb|stroke", re.IGNORECASE)
_BONE_PATTERN = re.compile(r"bone|knochen|\bos\b|sharp|edge|hueso", re.IGNORECASE)
_MIN_SLICES = 10
_MAX_STUDIES = 3
InstanceHandler = Callable[[ReceivedInstance], object]


def fetch_prior(settings: NodeSettings, header: Dataset, being_fetched: set[str], spool: Spool) -> str | None:
    """Fetch one series of the patient's latest earlier head CT from the first archive that has one.

    Parameters
    ----------
    settings : NodeSettings
        Peers and DICOMweb servers with priors.
    header : Dataset
        Header of the current series, with patient ID, study UID and date.
    being_fetched : set of str
        Contains the study UID while the study is fetched: its instances at the node's port are then no new work.
    spool : Spool
        Where the instances are stored; a series that is already stored is not fetched.

    Returns
    -------
    str or None
        Series UID of the prior; None if no archive has one, or patient ID or date are missing.

    Raises
    ------
    NotDelivered
        `not-delivered`, if an archive does not answer and no other has a prior.
    """
    patient, (date, time) = str(header.get("PatientID", "")).strip(), _read_study_date_time(header)
    study_uid = str(header.get("StudyInstanceUID", ""))
    if not patient or len(date) != 8 or re.search(r"[*?\\]", patient):
        return None
    archives: list[Peer | DicomwebServer] = [peer for peer in settings.peer if peer.use]
    archives += [server for server in settings.web if server.priors]
    last_error: NotDelivered | None = None
    for archive in archives:
        try:
            rows = _find_series(settings, archive, {"PatientID": patient, "StudyDate": f"-{date}"})
            candidates = [row for row in rows if _is_earlier_study(row, patient, (date, time), study_uid)]
            if (prior := choose_prior_series(candidates)) is None:
                continue
            prior_study_uid, prior_series_uid = str(prior.StudyInstanceUID), str(prior.SeriesInstanceUID)
            if spool.count_instances(prior_series_uid) >= max(1, _read_instance_count(prior)):
                return prior_series_uid
            being_fetched.add(prior_study_uid)
            try:
                _fetch_series(settings, archive, prior_study_uid, prior_series_uid, spool.store)
            finally:
                being_fetched.discard(prior_study_uid)
            return prior_series_uid
        except NotDelivered as error:
            last_error = error
    if last_error is not None:
        raise last_error
    return None


def choose_prior_series(rows: Iterable[Dataset]) -> Dataset | None:
    """Choose a CT series to compare with: of the latest study with a head, the series with the fewest slices.

    Few slices are thick slices, as most reports are based on. A bone series is chosen only if there is no other, and a
    series of fewer than ten slices never. A study counts as a head study by the words of its descriptions.

    Parameters
    ----------
    rows : iterable of Dataset
        Series of an archive with the attributes of their studies.

    Returns
    -------
    Dataset or None
        The series, or None if none is suitable.
    """
    candidates = [
        row
        for row in rows
        if _HEAD_PATTERN.search(_join_descriptions(row)) and not 0 < _read_instance_count(row) < _MIN_SLICES
    ]
    if not candidates:
        return None
    latest = max(_read_study_date_time(row) for row in candidates)
    return min(
        (row for row in candidates if _read_study_date_time(row) == latest),
        key=lambda row: (
            bool(_BONE_PATTERN.search(_join_descriptions(row))),
            _read_instance_count(row),
            str(row.SeriesInstanceUID),
        ),
    )


def _find_series(settings: NodeSettings, archive: Peer | DicomwebServer, keys: dict[str, str]) -> list[Dataset]:
    """List a patient's CT series in an archive, each with the attributes of its study."""
    if isinstance(archive, DicomwebServer):
        return dicomweb.search_series(dicomweb.open_client(archive), archive, {**keys, "Modality": "CT"})
    study_keys = dict.fromkeys(("StudyInstanceUID", "StudyDescription", "StudyTime"), "")
    studies = query_retrieve.c_find(settings.node, archive, "STUDY", {**study_keys, "ModalitiesInStudy": "CT", **keys})
    rows: list[Dataset] = []
    for study in sorted(studies, key=_read_study_date_time, reverse=True)[: _MAX_STUDIES + 1]:
        series_keys = {
            **dict.fromkeys(("SeriesInstanceUID", "SeriesDescription", "BodyPartExamined"), ""),
            "StudyInstanceUID": study.StudyInstanceUID,
            "Modality": "CT",
            "NumberOfSeriesRelatedInstances": "",
        }
        for row in query_retrieve.c_find(settings.node, archive, "SERIES", series_keys):
            for name in ("PatientID", "StudyDate", "StudyTime", "StudyDescription"):
                setattr(row, name, study.get(name, ""))
            row.StudyInstanceUID = study.StudyInstanceUID
            rows.append(row)
    return rows


def _is_earlier_study(row: Dataset, patient: str, date_time: tuple[str, str], study_uid: str) -> bool:
    # An archive may return more than requested: the current study itself, or later ones of the same day.
    is_same_patient = str(row.get("PatientID", patient)).strip() == patient
    date, time = _read_study_date_time(row)
    is_earlier = date < date_time[0] or (date == date_time[0] and "" < time < date_time[1])
    return is_same_patient and row.get("StudyInstanceUID", study_uid) != study_uid and bool(date) and is_earlier


def _join_descriptions(row: Dataset) -> str:
    return " ".join(str(row.get(name, "")) for name in ("BodyPartExamined", "SeriesDescription", "StudyDescription"))


def _read_study_date_time(row: Dataset) -> tuple[str, str]:
    return str(row.get("StudyDate") or "").strip(), str(row.get("StudyTime") or "").strip()


def _read_instance_count(row: Dataset) -> int:
    try:
        return int(row.get("NumberOfSeriesRelatedInstances") or 0)
    except (TypeError, ValueError):
        return 0


def _fetch_series(
    settings: NodeSettings, archive: Peer | DicomwebServer, study_uid: str, series_uid: str, store: InstanceHandler
) -> None:
    max_bytes = settings.node.most_object_bytes

    def on_instance(file: bytes) -> int:
        try:
            store(parse_instance(file, archive.name, max_bytes, prior=True))
        except TooLarge:
            return CANNOT_UNDERSTAND
        return SUCCESS

    if isinstance(archive, DicomwebServer):
        client = dicomweb.open_client(archive)
        for file in dicomweb.retrieve_series(client, archive, study_uid, series_uid, max_bytes):
            if on_instance(file) != SUCCESS:
                raise NotDelivered(f"{archive.name}: an instance of the prior is too large")
    elif archive.use == "get":
        query_retrieve.c_get(settings.node, archive, study_uid, series_uid, on_instance)
    else:
        query_retrieve.c_move(settings.node, archive, study_uid, series_uid)
