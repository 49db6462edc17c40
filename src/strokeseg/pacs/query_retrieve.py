"""Query and retrieve from an archive by DIMSE: C-FIND for studies and series, C-MOVE or C-GET for instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.events import EventHandlerType
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
    """Query an archive (C-FIND, study root).

    Parameters
    ----------
    local : LocalEntity
        The node's own title and timeouts.
    peer : Peer
        The archive.
    level : str
        "STUDY" | "SERIES" | "IMAGE".
    keys : dict of str to str
        Attribute names with the values to match; an empty value requests the attribute.

    Returns
    -------
    list of Dataset
        One data set per match.

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
    information_model = StudyRootQueryRetrieveInformationModelFind
    matches: list[Dataset] = []
    with open_association(local, peer, {information_model: _UNCOMPRESSED_SYNTAXES}) as association:
        for status, answer in association.send_c_find(query, information_model):
            if "Status" not in status:
                raise NotDelivered(f"{peer.name}: incomplete answer to C-FIND")
            if status.Status in _PENDING and answer is not None:
                matches.append(answer)
            elif status.Status != 0x0000:
                raise NotDelivered(f"{peer.name}: refused C-FIND with status {status.Status:04X}H")
    return matches


def c_move(local: LocalEntity, peer: Peer, study_uid: str, series_uid: str) -> None:
    """Have an archive send a series to the node's own port (C-MOVE); the archive must know the node's title.

    Parameters
    ----------
    local : LocalEntity
        The node's own title and timeouts.
    peer : Peer
        The archive.
    study_uid : str
        Study instance UID.
    series_uid : str
        Series instance UID.

    Raises
    ------
    NotDelivered
        `not-delivered`, also if some instances were not sent.
    """
    information_model = StudyRootQueryRetrieveInformationModelMove
    query = _make_series_query(study_uid, series_uid)
    with open_association(local, peer, {information_model: _UNCOMPRESSED_SYNTAXES}) as association:
        _check_final_status(association.send_c_move(query, local.ae_title, information_model), peer, "C-MOVE")


def c_get(local: LocalEntity, peer: Peer, study_uid: str, series_uid: str, on_instance: Callable[[bytes], int]) -> None:
    """Retrieve a series over one association (C-GET).

    Parameters
    ----------
    local : LocalEntity
        The node's own title and timeouts.
    peer : Peer
        The archive.
    study_uid : str
        Study instance UID.
    series_uid : str
        Series instance UID.
    on_instance : callable
        Is called with each instance as a file, and returns the status of C-STORE.

    Raises
    ------
    NotDelivered
        `not-delivered`, also if some instances were not sent, or one is larger than the node's limit.
    """
    information_model = StudyRootQueryRetrieveInformationModelGet
    query = _make_series_query(study_uid, series_uid)
    received_bytes = 0

    def on_data(event: evt.Event) -> None:
        nonlocal received_bytes
        received_bytes += len(event.data)
        if received_bytes > local.most_object_bytes + 2**20:
            event.assoc.abort()

    def on_c_store(event: evt.Event) -> int:
        nonlocal received_bytes
        received_bytes = 0
        return on_instance(event.encoded_dataset())

    contexts = {information_model: _UNCOMPRESSED_SYNTAXES} | {
        sop_class: list(ACCEPTED_SYNTAXES.values()) for sop_class in ACCEPTED_CLASSES.values()
    }
    roles = list(ACCEPTED_CLASSES.values())
    handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, on_c_store), (evt.EVT_DATA_RECV, on_data)]
    with open_association(local, peer, contexts, roles=roles, handlers=handlers) as association:
        _check_final_status(association.send_c_get(query, information_model), peer, "C-GET")


def _make_series_query(study_uid: str, series_uid: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "SERIES"
    query.StudyInstanceUID, query.SeriesInstanceUID = study_uid, series_uid
    return query


def _check_final_status(answers: Any, peer: Peer, request: str) -> None:
    last = Dataset()
    for status, _ in answers:
        last = status
    if "Status" not in last:
        raise NotDelivered(f"{peer.name}: no answer to {request}; the association ended")
    if last.Status != 0x0000 or last.get("NumberOfFailedSuboperations"):
        raise NotDelivered(f"{peer.name}: {request} ended with status {last.Status:04X}H")
