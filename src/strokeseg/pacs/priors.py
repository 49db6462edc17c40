"""The patient's earlier head CT: found in an archive and fetched, so that it can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from strokeseg.errors import NotDelivered
from strokeseg.pacs import dicomweb, query_retrieve
from strokeseg.pacs.settings import DicomwebServer, NodeSettings, Peer
from strokeseg.pacs.spool import ReceivedInstance, Spool

_HEAD_PATTERN = re.compile(r"head|brain|neuro|skull|cran|sch(ä|ae)del|kopf|t[êe]te|cereb|stroke", re.IGNORECASE)
_BONE_PATTERN = re.compile(r"bone|knochen|\bos\b|sharp|edge|hueso", re.IGNORECASE)
_MIN_SLICES = 10
_MAX_STUDIES = 3
InstanceHandler = Callable[[ReceivedInstance], object]


def fetch_prior(settings: NodeSettings, header: Dataset, fetching: set[str], spool: Spool) -> str | None:
    """Fetch one series of the newest earlier head CT of a patient, from the first archive that has one.

    Parameters
    ----------
    header : Dataset
        Of the series that is there: its patient's number, study UID and date are asked for.
    fetching : set of str
        Holds a study's UID while it is fetched: what then comes to our own port is no work.
    spool : Spool
        Where its instances go; what is there already is not fetched.

    Returns
    -------
    str or None
        The series' UID; None if no archive has one, or patient or date are not said.

    Raises
    ------
    NotDelivered
        `not-delivered`, if an archive does not answer and no other has one.
    """
    patient, (date, time) = str(header.get("PatientID", "")).strip(), _read_study_date_time(header)
    study_uid = str(header.get("StudyInstanceUID", ""))
    if not patient or len(date) != 8 or re.search(r"[*?\\]", patient):
        return None
    archives: list[Peer | DicomwebServer] = [peer for peer in settings.peer if peer.use]
    archives += [server for server in settings.web if server.priors]
    failed: NotDelivered | None = None
    for archive in archives:
        try:
            rows = _find_series(settings, archive, {"PatientID": patient, "StudyDate": f"-{date}"})
            others = [row for row in rows if _is_earlier_study(row, patient, (date, time), study_uid)]
            if (chosen := choose_prior_series(others)) is None:
                continue
            found_study, found_series = str(chosen.StudyInstanceUID), str(chosen.SeriesInstanceUID)
            if spool.count_instances(found_series) >= max(1, _read_instance_count(chosen)):
                return found_series
            fetching.add(found_study)
            try:
                _fetch_series(settings, archive, found_study, found_series, spool.store)
            finally:
                fetching.discard(found_study)
            return found_series
        except NotDelivered as error:
            failed = error
    if failed is not None:
        raise failed
    return None


def choose_prior_series(rows: Iterable[Dataset]) -> Dataset | None:
    """Choose a CT series to compare with: of the newest study whose words name a head, that of the fewest slices.

    Few slices are thick ones, as are most that a report was written on. Series for bone are taken last, those of fewer
    than ten slices never.
    """
    fit = [
        row
        for row in rows
        if _HEAD_PATTERN.search(_join_descriptions(row)) and not 0 < _read_instance_count(row) < _MIN_SLICES
    ]
    if not fit:
        return None
    newest = max(_read_study_date_time(row) for row in fit)
    return min(
        (row for row in fit if _read_study_date_time(row) == newest),
        key=lambda row: (
            bool(_BONE_PATTERN.search(_join_descriptions(row))),
            _read_instance_count(row),
            str(row.SeriesInstanceUID),
        ),
    )


def _find_series(settings: NodeSettings, archive: Peer | DicomwebServer, keys: dict[str, str]) -> list[Dataset]:
    """List a patient's CT series in an archive, each with what its study is."""
    if isinstance(archive, DicomwebServer):
        return dicomweb.search_series(dicomweb.open_client(archive), archive, {**keys, "Modality": "CT"})
    told = dict.fromkeys(("StudyInstanceUID", "StudyDescription", "StudyTime"), "")
    studies = query_retrieve.c_find(settings.node, archive, "STUDY", {**told, "ModalitiesInStudy": "CT", **keys})
    rows: list[Dataset] = []
    for study in sorted(studies, key=_read_study_date_time, reverse=True)[: _MAX_STUDIES + 1]:
        told = dict.fromkeys(("SeriesInstanceUID", "SeriesDescription", "BodyPartExamined"), "")
        asked = {"StudyInstanceUID": study.StudyInstanceUID, "Modality": "CT", "NumberOfSeriesRelatedInstances": ""}
        for row in query_retrieve.c_find(settings.node, archive, "SERIES", {**told, **asked}):
            for name in ("PatientID", "StudyDate", "StudyTime", "StudyDescription"):
                setattr(row, name, study.get(name, ""))
            row.StudyInstanceUID = study.StudyInstanceUID
            rows.append(row)
    return rows


def _is_earlier_study(row: Dataset, patient: str, when: tuple[str, str], study_uid: str) -> bool:
    # An archive may answer more than was asked, the study itself, and later ones of the same day.
    same = str(row.get("PatientID", patient)).strip() == patient
    date, time = _read_study_date_time(row)
    sooner = date < when[0] or (date == when[0] and "" < time < when[1])
    return same and row.get("StudyInstanceUID", study_uid) != study_uid and bool(date) and sooner


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
    settings: NodeSettings, archive: Peer | DicomwebServer, study_uid: str, series_uid: str, keep: InstanceHandler
) -> None:
    def kept(file: bytes, header: Dataset) -> int:
        keep(ReceivedInstance(file, header, archive.name, prior=True))
        return 0x0000

    if isinstance(archive, DicomwebServer):
        for file in dicomweb.retrieve_series(dicomweb.open_client(archive), archive, study_uid, series_uid):
            kept(file, dcmread(BytesIO(file), stop_before_pixels=True))
    elif archive.use == "get":
        query_retrieve.c_get(settings.node, archive, study_uid, series_uid, kept)
    else:
        query_retrieve.c_move(settings.node, archive, study_uid, series_uid)
