"""The listening side: C-STORE, C-ECHO and Storage Commitment, for the peers of the settings and nobody else.

Success is answered when the instance outlives a power cut, never before. Every refusal has a DICOM status, and a line
in the log without patient data.
"""

from __future__ import annotations

import io
import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    Verification,
)
from pynetdicom.transport import ThreadedAssociationServer
from sqlalchemy import insert, update
from sqlalchemy.exc import SQLAlchemyError

from strokeseg.errors import DiskFull, UsageError
from strokeseg.pacs import connection_limits, tls
from strokeseg.pacs.completion import OpenAssociations
from strokeseg.pacs.database import outbox_table, series_table
from strokeseg.pacs.settings import NodeSettings, Peer
from strokeseg.pacs.sop_classes import ACCEPTED_CLASSES, ACCEPTED_SYNTAXES
from strokeseg.pacs.spool import ReceivedInstance, Spool

log = logging.getLogger("strokeseg.node")

# Statuses of PS3.4, B.2.3 and PS3.7, annex C.
SUCCESS = 0x0000
DUPLICATE_INSTANCE = 0x0111
OUT_OF_RESOURCES = 0xA700
DATASET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
NOT_AUTHORIZED = 0x0124
_UNKNOWN_TITLE = "?"
_UID = re.compile(r"[\x21-\x7e]{1,64}")  # also those that the standard forbids: letters are seen
_REQUEST_TIMEOUT_S = 10.0
_MAX_PENDING_CONNECTIONS = 64  # connections beyond `most_associations` that have not yet asked for anything

EventObserver = Callable[[str, str], None]


@dataclass
class StorageScp:
    """The node's open port.

    Parameters
    ----------
    settings : NodeSettings
        Checked.
    spool : Spool
        Where instances go.
    associations : OpenAssociations
        What is open, for :mod:`strokeseg.pacs.completion`.
    observe : EventObserver, optional
        Is called with ("store" | "association" | "commitment", outcome) for the metrics.
    fetching : object
        Study UIDs being fetched to compare with: their instances are no work.
    reported : object
        Is called with the transaction UID, and the SOP instance UIDs that an archive has and has not.
    """

    settings: NodeSettings
    spool: Spool
    associations: OpenAssociations
    observe: EventObserver = lambda kind, outcome: None
    studies_being_fetched: set[str] = field(default_factory=set)
    on_commitment_report: Callable[[str, list[str], list[str]], None] = lambda uid, have, miss: None
    _server: ThreadedAssociationServer | None = None
    _received_bytes: dict[int, int] = field(default_factory=dict)

    def start(self) -> int:
        """Listen, and give the port.

        Raises
        ------
        UsageError
            `usage`, if the address cannot be listened on, or a certificate cannot be used.
        """
        local = self.settings.node
        ae = AE(ae_title=local.ae_title)
        ae.require_called_aet = True
        ae.require_calling_aet = [peer.ae_title for peer in self.settings.peer] or [_UNKNOWN_TITLE * 2]
        ae.maximum_associations = local.most_associations
        ae.dimse_timeout = ae.network_timeout = local.network_timeout_s
        ae.acse_timeout = min(
            _REQUEST_TIMEOUT_S, local.network_timeout_s
        )  # who connects and asks for nothing is soon gone
        for sop_class in ACCEPTED_CLASSES.values():
            ae.add_supported_context(sop_class, list(ACCEPTED_SYNTAXES.values()))
        ae.add_supported_context(Verification)
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        try:
            context = tls.create_server_context(local.tls) if local.tls else None
        except (OSError, ValueError) as error:
            said = f"node.tls: certificate, key or authority cannot be used ({type(error).__name__})"
            raise UsageError(
                said, "Give PEM files; the key must belong to the certificate and have no pass phrase."
            ) from None
        where = (local.address, local.port)
        try:
            server = ae.start_server(where, block=False, evt_handlers=self._handlers(), ssl_context=context)
        except OSError as error:
            said = f"{local.address}:{local.port} cannot be listened on ({error.strerror})"
            raise UsageError(said, "Choose another address or port.") from None
        assert server is not None
        self._server = server
        setattr(server, "verify_request", self._accept_connection)  # noqa: B010 - the way of socketserver, by a method of ours
        return int(server.server_address[1])

    def stop(self) -> None:
        """Take no more associations and end those that are open."""
        if self._server is not None:
            self._server.ae.shutdown()

    def _handlers(self) -> list[EventHandlerType]:
        return [
            (evt.EVT_CONN_OPEN, self._on_connection_open),
            (evt.EVT_ESTABLISHED, lambda event: self.observe("association", "accepted")),
            (evt.EVT_REQUESTED, self._on_association_request),
            (evt.EVT_DATA_RECV, self._on_data),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._on_c_store),
            (evt.EVT_N_ACTION, self._on_n_action),
            (evt.EVT_N_EVENT_REPORT, self._on_n_event_report),
            (evt.EVT_RELEASED, self._on_association_end),
            (evt.EVT_ABORTED, self._on_association_end),
            (evt.EVT_CONN_CLOSE, self._on_association_end),
            (evt.EVT_REJECTED, lambda event: self.observe("association", "rejected")),
        ]

    def _accept_connection(self, request: object, address: tuple[str, int]) -> bool:
        """Return whether a connection is taken at all, before anything is spent on it."""
        assert self._server is not None
        open_ones = sum(one.is_acceptor for one in self._server.ae.active_associations)
        most = self.settings.node.most_associations + _MAX_PENDING_CONNECTIONS
        if open_ones < most:
            return True
        if open_ones < 4 * most and any(
            connection_limits.is_allowed_address(peer, address[0]) for peer in self.settings.peer
        ):
            return True  # strangers must not keep peers out
        log.warning("connection closed: too many are open (%d)", open_ones)
        self.observe("association", "flood")
        return False

    def _on_connection_open(self, event: evt.Event) -> None:
        """Bound what a connection may hold before anybody knows who it is."""
        line: Any = event.assoc.dul.socket
        seconds = self.settings.node.network_timeout_s
        line.socket.settimeout(min(_REQUEST_TIMEOUT_S, seconds))
        line.recv = partial(connection_limits.read_pdu, line.socket, seconds)

    def _on_association_request(self, event: evt.Event) -> None:
        asked = event.assoc.requestor.primitive
        assert asked is not None  # the handler is called with a request only
        # Those that asked for nothing yet do not count: else a few silent ones would keep the peers out.
        unasked = sum(one.is_acceptor and not one.is_established for one in event.assoc.ae.active_associations)
        event.assoc.ae.maximum_associations = max(1, self.settings.node.most_associations + unasked - 1)
        title, address = asked.calling_ae_title.strip(), event.assoc.requestor.address
        if any(
            peer.ae_title == title and connection_limits.is_allowed_address(peer, address)
            for peer in self.settings.peer
        ):
            return
        log.warning("association refused: called %s, calling %s, from %s", asked.called_ae_title, title, address)
        # No peer has this title, so pynetdicom rejects with the standard's reason: calling title not recognised.
        asked.calling_ae_title = _UNKNOWN_TITLE

    def _on_data(self, event: evt.Event) -> None:
        # An object is bounded while it comes in, not when it already fills the memory.
        key = id(event.assoc)
        self._received_bytes[key] = self._received_bytes.get(key, 0) + len(event.data)
        if self._received_bytes[key] > self.settings.node.most_object_mb * 2**20 + 2**20:
            log.warning("association aborted: an object is larger than %d MB", self.settings.node.most_object_mb)
            self.observe("store", "too-large")
            event.assoc.abort()

    def _on_association_end(self, event: evt.Event) -> None:
        self._received_bytes.pop(id(event.assoc), None)
        self.associations.remove(id(event.assoc))

    def _find_peer(self, association: Association) -> Peer:
        asked = association.requestor
        peers = [peer for peer in self.settings.peer if peer.ae_title == asked.ae_title.strip()]
        return next(
            peer for peer in peers if len(peers) == 1 or connection_limits.is_allowed_address(peer, str(asked.address))
        )

    def _on_c_store(self, event: evt.Event) -> int | Dataset:
        self._received_bytes[id(event.assoc)] = 0
        peer = self._find_peer(event.assoc)
        status, comment = self._store_instance(event, peer)
        outcome = "stored" if status == SUCCESS else f"{status:04x}"
        self.observe("store", outcome)
        if status == SUCCESS:
            return SUCCESS
        log.warning("instance refused from %s: %s (status %04xH)", peer.name, comment, status)
        answer = Dataset()
        answer.Status = status
        answer.ErrorComment = comment[:64]
        return answer

    def _store_instance(self, event: evt.Event, peer: Peer) -> tuple[int, str]:
        """Store what came, and give status and the reason of a refusal."""
        try:
            file = event.encoded_dataset()
            header = dcmread(io.BytesIO(file), stop_before_pixels=True)
            asked: Any = event.request
            moved = peer.use == "move" or asked.MoveOriginatorApplicationEntityTitle == self.settings.node.ae_title
            fetched = str(header.get("StudyInstanceUID", "")) in self.studies_being_fetched
            arrived = ReceivedInstance(file, header, peer.name, prior=fetched and moved)
            sop_uid, series_uid, study_uid = arrived.uids
        except Exception as error:  # a peer can send any bytes; nothing of them may end the server
            return CANNOT_UNDERSTAND, f"the data set cannot be parsed ({type(error).__name__})"
        if "send" not in peer.may and not arrived.prior:
            return NOT_AUTHORIZED, "this peer may not send"
        if not all(_UID.fullmatch(uid) for uid in (sop_uid, series_uid, study_uid)):
            return DATASET_MISMATCH, "SOP instance, series or study UID is missing or none"
        if (sop_uid, header.get("SOPClassUID")) != (asked.AffectedSOPInstanceUID, event.context.abstract_syntax):
            return DATASET_MISMATCH, "the data set is not of the request's class and instance"
        self.associations.add(id(event.assoc), series_uid)
        try:
            kept = self.spool.store(arrived)
        except DiskFull:
            return OUT_OF_RESOURCES, "out of space"
        except (OSError, SQLAlchemyError) as error:
            return OUT_OF_RESOURCES, f"cannot be stored now ({type(error).__name__})"
        if kept == "different":
            return DUPLICATE_INSTANCE, "another instance of this UID is here; the first was kept"
        return SUCCESS, ""

    def _on_n_action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Take a request for storage commitment; the answer goes out through the outbox, also after a restart."""
        peer = self._find_peer(event.assoc)
        if "commit" not in peer.may or peer.host is None:
            return NOT_AUTHORIZED, None
        try:
            asked = event.action_information
            transaction = str(asked.TransactionUID)
            pairs = [
                (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                for item in asked.ReferencedSOPSequence
            ]
            self._queue_commitment_report(peer, transaction, pairs)
        except (AttributeError, KeyError, ValueError):
            return 0x0115, None  # invalid argument value
        except SQLAlchemyError:
            return PROCESSING_FAILURE, None
        self.observe("commitment", "asked")
        return SUCCESS, None

    def _queue_commitment_report(self, peer: Peer, transaction: str, pairs: list[tuple[str, str]]) -> None:
        now = time.time()
        row = {
            "id": uuid.uuid4().hex,
            "kind": "commitment",
            "target": peer.name,
            "series_uid": "",
            "version": 0,
            "content": json.dumps({"transaction": transaction, "instances": pairs}),
            "state": "waiting",
            "tries": 0,
            "first_at": now,
            "next_at": now,
            "error": "",
        }
        uids = self.spool.find_series([uid for _, uid in pairs])
        with self.spool.engine.begin() as connection:
            connection.execute(insert(outbox_table).values(row))
            if uids:
                connection.execute(
                    update(series_table).where(series_table.c.series_uid.in_(uids)).values(committed=True)
                )

    def _on_n_event_report(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Take an archive's answer to our own request for commitment."""
        found = event.event_information
        have = [str(item.ReferencedSOPInstanceUID) for item in found.get("ReferencedSOPSequence", [])]
        miss = [str(item.ReferencedSOPInstanceUID) for item in found.get("FailedSOPSequence", [])]
        self.on_commitment_report(str(found.get("TransactionUID", "")), have, miss)
        return SUCCESS, None
