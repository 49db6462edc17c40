"""Fetch from an archive by DIMSE: C-FIND for studies and series, C-MOVE or C-GET for their instances."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from strokeseg.errors import NotDelivered
from strokeseg.pacs.scu import open_association
from strokeseg.pacs.settings import LocalEntity, Peer
from strokeseg.pacs.sop_classes import ACCEPTED_CLASSES, ACCEPTED_SYNTAXES, SENT_SYNTAXES

_PENDING = (0xFF00, 0xFF01)
_UNCOMPRESSED_SYNTAXES = list(SENT_SYNTAXES.values())


def c_find(local: LocalEntity, peer: Peer, level: str, keys: dict[str, str]) -> list[Dataset]:
    """Ask an archive (C-FIND, study root).

    Parameters
    ----------
    level : str
        "STUDY" | "SERIES" | "IMAGE".
    keys : dict of str to str
        Attribute names with what they must be; empty to be told.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    query = Dataset()
    query.QueryRetrieveLevel = level
    query.SpecificCharacterSet = "ISO_IR 192"
    for name, value in keys.items():
        setattr(query, name, value)
    model = StudyRootQueryRetrieveInformationModelFind
    found: list[Dataset] = []
    with open_association(local, peer, {model: _UNCOMPRESSED_SYNTAXES}) as opened:
        for status, answer in opened.send_c_find(query, model):
            if "Status" not in status:
                raise NotDelivered(f"{peer.name}: no whole answer to C-FIND")
            if status.Status in _PENDING and answer is not None:
                found.append(answer)
            elif status.Status != 0x0000:
                raise NotDelivered(f"{peer.name}: refused C-FIND with status {status.Status:04X}H")
    return found


def c_move(local: LocalEntity, peer: Peer, study_uid: str, series_uid: str) -> None:
    """Have a series sent to our own port (C-MOVE); the archive must know us by our title.

    Raises
    ------
    NotDelivered
        `not-delivered`, also if only some of it came.
    """
    model = StudyRootQueryRetrieveInformationModelMove
    with open_association(local, peer, {model: _UNCOMPRESSED_SYNTAXES}) as opened:
        _check_final_status(
            opened.send_c_move(_make_series_query(study_uid, series_uid), local.ae_title, model), peer, "C-MOVE"
        )


def c_get(
    local: LocalEntity, peer: Peer, study_uid: str, series_uid: str, keep: Callable[[bytes, Dataset], int]
) -> None:
    """Fetch a series over the same association (C-GET).

    Parameters
    ----------
    keep : callable
        Is given each instance as a whole file and its header, and gives the status of C-STORE.

    Raises
    ------
    NotDelivered
        `not-delivered`, also if only some of it came.
    """
    model = StudyRootQueryRetrieveInformationModelGet

    def stored(event: evt.Event) -> int:
        file = event.encoded_dataset()
        return keep(file, dcmread(BytesIO(file), stop_before_pixels=True))

    contexts = {model: _UNCOMPRESSED_SYNTAXES} | {
        sop_class: list(ACCEPTED_SYNTAXES.values()) for sop_class in ACCEPTED_CLASSES.values()
    }
    roles = list(ACCEPTED_CLASSES.values())
    with open_association(local, peer, contexts, roles=roles, handlers=[(evt.EVT_C_STORE, stored)]) as opened:
        _check_final_status(opened.send_c_get(_make_series_query(study_uid, series_uid), model), peer, "C-GET")


def _make_series_query(study_uid: str, series_uid: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID, query.SeriesInstanceUID = study_uid, series_uid
    return query


def _check_final_status(answers: Any, peer: Peer, what: str) -> None:
    last = Dataset()
    for status, _ in answers:
        last = status
    if "Status" not in last:
        raise NotDelivered(f"{peer.name}: no answer to {what}; the association ended")
    if last.Status != 0x0000 or last.get("NumberOfFailedSuboperations"):
        raise NotDelivered(f"{peer.name}: {what} ended with status {last.Status:04X}H")
