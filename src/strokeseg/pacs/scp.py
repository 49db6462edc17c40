"""The node's listening side: C-STORE, C-ECHO and Storage Commitment, only for the peers of the settings.

Success is answered only when the instance would survive a power cut. Every refusal has a DICOM status and a log line
without patient data.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

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

from strokeseg.errors import DiskFull, TooLarge, UsageError
from strokeseg.pacs import connection_limits, tls
from strokeseg.pacs.completion import OpenAssociations
from strokeseg.pacs.database import outbox_table, series_table
from strokeseg.pacs.instance_files import parse_instance
from strokeseg.pacs.settings import NodeSettings, Peer
from strokeseg.pacs.sop_classes import ACCEPTED_CLASSES, ACCEPTED_SYNTAXES, SENT_SYNTAXES
from strokeseg.pacs.spool import Spool

log = logging.getLogger("strokeseg.node")

# Statuses of PS3.4, B.2.3 and PS3.7, annex C.
SUCCESS = 0x0000
DUPLICATE_INSTANCE = 0x0111
OUT_OF_RESOURCES = 0xA700
DATASET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
INVALID_ARGUMENT = 0x0115
NOT_AUTHORIZED = 0x0124
_UNKNOWN_TITLE = "?"
_UID = re.compile(r"[\x21-\x7e]{1,64}")  # also UIDs that the standard forbids: some devices send letters
_REQUEST_TIMEOUT_S = 10.0
_MAX_PENDING_CONNECTIONS = 64  # connections beyond `most_associations` that have not requested an association yet

EventObserver = Callable[[str, str], None]


@dataclass
class StorageScp:
    """The node's open port.

    Attributes
    ----------
    settings : NodeSettings
        Validated settings.
    spool : Spool
        Where instances are stored.
    associations : OpenAssociations
        Open associations, for :mod:`strokeseg.pacs.completion`.
    observe : callable, optional
        Is called with ("store" | "association" | "commitment", outcome) for the metrics.
    studies_being_fetched : set of str
        UIDs of studies being fetched for comparison; their instances are not segmented on their own account.
    on_commitment_report : callable, optional
        Is called with the transaction UID, and the SOP instance UIDs that an archive has and lacks.
    """

    settings: NodeSettings
    spool: Spool
    associations: OpenAssociations
    observe: EventObserver = lambda kind, outcome: None
    studies_being_fetched: set[str] = field(default_factory=set)
    on_commitment_report: Callable[[str, list[str], list[str]], None] = lambda uid, stored, missing: None
    _server: ThreadedAssociationServer | None = None
    _received_bytes: dict[int, int] = field(default_factory=dict)

    def start(self) -> int:
        """Listen on the port.

        Returns
        -------
        int
            The port.

        Raises
        ------
        UsageError
            `usage`, if the port cannot be opened, or a certificate cannot be used.
        """
        local = self.settings.node
        ae = AE(ae_title=local.ae_title)
        ae.require_called_aet = True
        ae.require_calling_aet = [peer.ae_title for peer in self.settings.peer] or [_UNKNOWN_TITLE * 2]
        ae.maximum_associations = local.most_associations
        ae.dimse_timeout = ae.network_timeout = local.network_timeout_s
        # A connection that requests nothing is closed soon.
        ae.acse_timeout = min(_REQUEST_TIMEOUT_S, local.network_timeout_s)
        for sop_class in ACCEPTED_CLASSES.values():
            ae.add_supported_context(sop_class, list(ACCEPTED_SYNTAXES.values()))
        ae.add_supported_context(Verification)
        # Without a deflated transfer syntax: pynetdicom inflates requests without a limit.
        syntaxes = list(SENT_SYNTAXES.values())
        ae.add_supported_context(StorageCommitmentPushModel, syntaxes, scu_role=True, scp_role=True)
        try:
            context = tls.create_server_context(local.tls) if local.tls else None
        except (OSError, ValueError) as error:
            message = f"node.tls: certificate, key or authority cannot be used ({type(error).__name__})"
            raise UsageError(message, tls.REMEDY) from None
        address = (local.address, local.port)
        try:
            server = ae.start_server(address, block=False, evt_handlers=self._handlers(), ssl_context=context)
        except OSError as error:
            message = f"{local.address}:{local.port} cannot be opened for listening ({error.strerror})"
            raise UsageError(message, "Choose another address or port.") from None
        assert server is not None
        self._server = server
        setattr(server, "verify_request", self._accept_connection)  # noqa: B010 - the hook of socketserver
        return int(server.server_address[1])

    def stop(self) -> None:
        """Accept no more associations and end the open ones."""
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
        """Return whether to accept a connection, before it costs anything."""
        assert self._server is not None
        open_count = sum(association.is_acceptor for association in self._server.ae.active_associations)
        limit = self.settings.node.most_associations + _MAX_PENDING_CONNECTIONS
        if open_count < limit:
            return True
        if open_count < 4 * limit and any(
            connection_limits.is_allowed_address(peer, address[0]) for peer in self.settings.peer
        ):
            return True  # strangers must not lock out peers
        log.warning("connection closed: too many are open (%d)", open_count)
        self.observe("association", "flood")
        return False

    def _on_connection_open(self, event: evt.Event) -> None:
        """Limit what a connection may occupy before the peer is known."""
        transport: Any = event.assoc.dul.socket
        timeout_s = self.settings.node.network_timeout_s
        transport.socket.settimeout(min(_REQUEST_TIMEOUT_S, timeout_s))
        transport.recv = partial(connection_limits.read_pdu, transport.socket, timeout_s)

    def _on_association_request(self, event: evt.Event) -> None:
        request = event.assoc.requestor.primitive
        assert request is not None  # the handler is called with a request only
        # Connections without a request do not count; otherwise a few silent ones would lock out the peers.
        pending = sum(
            association.is_acceptor and not association.is_established
            for association in event.assoc.ae.active_associations
        )
        event.assoc.ae.maximum_associations = max(1, self.settings.node.most_associations + pending - 1)
        title, address = request.calling_ae_title.strip(), event.assoc.requestor.address
        if any(
            peer.ae_title == title and connection_limits.is_allowed_address(peer, address)
            for peer in self.settings.peer
        ):
            return
        log.warning("association refused: called %s, calling %s, from %s", request.called_ae_title, title, address)
        # No peer has this title, so pynetdicom rejects with the standard's reason: calling AE title not recognized.
        request.calling_ae_title = _UNKNOWN_TITLE

    def _on_data(self, event: evt.Event) -> None:
        # The size is checked while the object arrives, not when it already fills the memory.
        key = id(event.assoc)
        self._received_bytes[key] = self._received_bytes.get(key, 0) + len(event.data)
        if self._received_bytes[key] > self.settings.node.most_object_bytes + 2**20:
            log.warning("association aborted: an object is larger than %d MB", self.settings.node.most_object_mb)
            self.observe("store", "too-large")
            event.assoc.abort()

    def _on_association_end(self, event: evt.Event) -> None:
        self._received_bytes.pop(id(event.assoc), None)
        self.associations.remove(id(event.assoc))

    def _find_peer(self, association: Association) -> Peer:
        requestor = association.requestor
        peers = [peer for peer in self.settings.peer if peer.ae_title == requestor.ae_title.strip()]
        address = str(requestor.address)
        return next(peer for peer in peers if len(peers) == 1 or connection_limits.is_allowed_address(peer, address))

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
        """Store the instance; return the status and the reason of a refusal."""
        try:
            request: Any = event.request
            instance = parse_instance(event.encoded_dataset(), peer.name, self.settings.node.most_object_bytes)
            sop_uid, series_uid, study_uid = instance.uids
            is_moved = peer.use == "move" or request.MoveOriginatorApplicationEntityTitle == self.settings.node.ae_title
            instance = replace(instance, prior=is_moved and study_uid in self.studies_being_fetched)
        except TooLarge as error:
            return CANNOT_UNDERSTAND, error.message
        except Exception as error:  # a peer may send any bytes; none of them may stop the server
            return CANNOT_UNDERSTAND, f"the data set cannot be parsed ({type(error).__name__})"
        if "send" not in peer.may and not instance.prior:
            return NOT_AUTHORIZED, "this peer may not send"
        if not all(_UID.fullmatch(uid) for uid in (sop_uid, series_uid, study_uid)):
            return DATASET_MISMATCH, "SOP instance, series or study UID is missing or invalid"
        if (sop_uid, instance.header.get("SOPClassUID")) != (
            request.AffectedSOPInstanceUID,
            event.context.abstract_syntax,
        ):
            return DATASET_MISMATCH, "SOP class or instance differ from those of the request"
        self.associations.add(id(event.assoc), series_uid)
        try:
            outcome = self.spool.store(instance)
        except DiskFull:
            return OUT_OF_RESOURCES, "out of space"
        except (OSError, SQLAlchemyError) as error:
            return OUT_OF_RESOURCES, f"cannot be stored now ({type(error).__name__})"
        if outcome == "different":
            return DUPLICATE_INSTANCE, "another instance has this UID; the first one was kept"
        return SUCCESS, ""

    def _on_n_action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Accept a request for storage commitment; the outbox sends the answer, even after a restart."""
        peer = self._find_peer(event.assoc)
        if "commit" not in peer.may or peer.host is None:
            return NOT_AUTHORIZED, None
        try:
            request = event.action_information
            transaction = str(request.TransactionUID)
            references = [
                (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                for item in request.ReferencedSOPSequence
            ]
            self._queue_commitment_report(peer, transaction, references)
        except (AttributeError, KeyError, ValueError):
            return INVALID_ARGUMENT, None
        except SQLAlchemyError:
            return PROCESSING_FAILURE, None
        self.observe("commitment", "asked")
        return SUCCESS, None

    def _queue_commitment_report(self, peer: Peer, transaction: str, references: list[tuple[str, str]]) -> None:
        now = time.time()
        row = {
            "id": uuid.uuid4().hex,
            "kind": "commitment",
            "target": peer.name,
            "series_uid": "",
            "version": 0,
            "content": json.dumps({"transaction": transaction, "instances": references}),
            "state": "waiting",
            "tries": 0,
            "first_at": now,
            "next_at": now,
            "error": "",
        }
        series_uids = self.spool.find_series([uid for _, uid in references])
        with self.spool.engine.begin() as connection:
            connection.execute(insert(outbox_table).values(row))
            if series_uids:
                committed = update(series_table).where(series_table.c.series_uid.in_(series_uids))
                connection.execute(committed.values(committed=True))

    def _on_n_event_report(self, event: evt.Event) -> tuple[int, Dataset | None]:
        """Accept an archive's answer to the node's own request for storage commitment."""
        report = event.event_information
        stored = [str(item.ReferencedSOPInstanceUID) for item in report.get("ReferencedSOPSequence", [])]
        missing = [str(item.ReferencedSOPInstanceUID) for item in report.get("FailedSOPSequence", [])]
        self.on_commitment_report(str(report.get("TransactionUID", "")), stored, missing)
        return SUCCESS, None
