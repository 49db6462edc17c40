"""The patient's earlier head CT: found in an archive and fetched, so that it can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset

from strokeseg.errors import NotDelivered
from strokeseg.pacs import fetch, web
from strokeseg.pacs.settings import Peer, Settings, Web
from strokeseg.pacs.spool import Arrived, Spool

_HEAD = re.compile(r"head|brain|neuro|skull|cran|sch(ä|ae)del|kopf|t[êe]te|cereb|stroke", re.IGNORECASE)
_BONE = re.compile(r"bone|knochen|\bos\b|sharp|edge|hueso", re.IGNORECASE)
_LEAST_SLICES = 10
_MOST_STUDIES = 3
Keep = Callable[[Arrived], object]


def fetch_prior(settings: Settings, header: Dataset, fetching: set[str], spool: Spool) -> str | None:
    """Fetch one series of the newest earlier head CT of a patient, from the first archive that has one.

    Parameters
    ----------
    header : of the series that is there: its patient's number, study UID and date are asked for
    fetching : holds a study's UID while it is fetched: what then comes to our own port is no work
    spool : where its instances go; what is there already is not fetched

    Returns
    -------
    The series' UID; None if no archive has one, or patient or date are not said

    Raises
    ------
    NotDelivered
        `not-delivered`, if an archive does not answer and no other has one
    """
    patient, (date, time) = str(header.get("PatientID", "")).strip(), _when(header)
    study_uid = str(header.get("StudyInstanceUID", ""))
    if not patient or len(date) != 8 or re.search(r"[*?\\]", patient):
        return None
    archives: list[Peer | Web] = [peer for peer in settings.peer if peer.use]
    archives += [server for server in settings.web if server.priors]
    failed: NotDelivered | None = None
    for archive in archives:
        try:
            rows = _series(settings, archive, {"PatientID": patient, "StudyDate": f"-{date}"})
            others = [row for row in rows if _of(row, patient, (date, time), study_uid)]
            if (chosen := choose(others)) is None:
                continue
            found_study, found_series = str(chosen.StudyInstanceUID), str(chosen.SeriesInstanceUID)
            if spool.count(found_series) >= max(1, _count(chosen)):
                return found_series
            fetching.add(found_study)
            try:
                _fetch(settings, archive, found_study, found_series, spool.keep)
            finally:
                fetching.discard(found_study)
            return found_series
        except NotDelivered as error:
            failed = error
    if failed is not None:
        raise failed
    return None


def choose(rows: Iterable[Dataset]) -> Dataset | None:
    """Choose a CT series to compare with: of the newest study whose words name a head, that of the fewest slices.

    Few slices are thick ones, as are most that a report was written on. Series for bone are taken last, those of fewer
    than ten slices never.
    """
    fit = [row for row in rows if _HEAD.search(_words(row)) and not 0 < _count(row) < _LEAST_SLICES]
    if not fit:
        return None
    newest = max(_when(row) for row in fit)
    return min(
        (row for row in fit if _when(row) == newest),
        key=lambda row: (bool(_BONE.search(_words(row))), _count(row), str(row.SeriesInstanceUID)),
    )


def _series(settings: Settings, archive: Peer | Web, keys: dict[str, str]) -> list[Dataset]:
    """List a patient's CT series in an archive, each with what its study is."""
    if isinstance(archive, Web):
        return web.series_of(web.open_client(archive), archive, {**keys, "Modality": "CT"})
    told = dict.fromkeys(("StudyInstanceUID", "StudyDescription", "StudyTime"), "")
    studies = fetch.find(settings.node, archive, "STUDY", {**told, "ModalitiesInStudy": "CT", **keys})
    rows: list[Dataset] = []
    for study in sorted(studies, key=_when, reverse=True)[: _MOST_STUDIES + 1]:
        told = dict.fromkeys(("SeriesInstanceUID", "SeriesDescription", "BodyPartExamined"), "")
        asked = {"StudyInstanceUID": study.StudyInstanceUID, "Modality": "CT", "NumberOfSeriesRelatedInstances": ""}
        for row in fetch.find(settings.node, archive, "SERIES", {**told, **asked}):
            for name in ("PatientID", "StudyDate", "StudyTime", "StudyDescription"):
                setattr(row, name, study.get(name, ""))
            row.StudyInstanceUID = study.StudyInstanceUID
            rows.append(row)
    return rows


def _of(row: Dataset, patient: str, when: tuple[str, str], study_uid: str) -> bool:
    # An archive may answer more than was asked, the study itself, and later ones of the same day.
    same = str(row.get("PatientID", patient)).strip() == patient
    date, time = _when(row)
    sooner = date < when[0] or (date == when[0] and "" < time < when[1])
    return same and row.get("StudyInstanceUID", study_uid) != study_uid and bool(date) and sooner


def _words(row: Dataset) -> str:
    return " ".join(str(row.get(name, "")) for name in ("BodyPartExamined", "SeriesDescription", "StudyDescription"))


def _when(row: Dataset) -> tuple[str, str]:
    return str(row.get("StudyDate") or "").strip(), str(row.get("StudyTime") or "").strip()


def _count(row: Dataset) -> int:
    try:
        return int(row.get("NumberOfSeriesRelatedInstances") or 0)
    except (TypeError, ValueError):
        return 0


def _fetch(settings: Settings, archive: Peer | Web, study_uid: str, series_uid: str, keep: Keep) -> None:
    def kept(file: bytes, header: Dataset) -> int:
        keep(Arrived(file, header, archive.name, prior=True))
        return 0x0000

    if isinstance(archive, Web):
        for file in web.fetch_series(web.open_client(archive), archive, study_uid, series_uid):
            kept(file, dcmread(BytesIO(file), stop_before_pixels=True))
    elif archive.use == "get":
        fetch.get(settings.node, archive, study_uid, series_uid, kept)
    else:
        fetch.move(settings.node, archive, study_uid, series_uid)
