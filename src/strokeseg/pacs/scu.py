"""The calling side of DIMSE: verify, store, and request or report storage commitment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from strokeseg.errors import NotDelivered
from strokeseg.pacs import tls
from strokeseg.pacs.settings import LocalEntity, Peer
from strokeseg.pacs.sop_classes import SENT_SYNTAXES

STORED_STATUSES = (0x0000, 0xB000, 0xB006, 0xB007)  # PS3.4, B.2.3: a warning still means stored
_REJECTION_REASONS = {  # PS3.8, 9.3.4
    (1, 1): "no reason given",
    (1, 2): "our application context is not supported",
    (1, 3): "our calling AE title is not recognized",
    (1, 7): "its called AE title is not recognized",
    (2, 2): "the protocol version is not supported",
    (3, 1): "it has too many associations",
    (3, 2): "it has too many associations",
}
Contexts = Mapping[str, Sequence[str]]


@contextmanager
def open_association(
    local: LocalEntity,
    peer: Peer,
    contexts: Contexts,
    *,
    roles: Sequence[str] = (),
    handlers: Sequence[EventHandlerType] = (),
) -> Iterator[Association]:
    """Open an association with a peer for the duration of the block.

    Parameters
    ----------
    local : LocalEntity
        The node's own title and timeouts.
    peer : Peer
        The peer.
    contexts : mapping of str to sequence of str
        SOP classes, each with the transfer syntaxes to offer.
    roles : sequence of str, default: ()
        Those SOP classes for which the node offers the SCP role.
    handlers : sequence of tuple, default: ()
        Event handlers of pynetdicom.

    Yields
    ------
    Association
        The established association.

    Raises
    ------
    NotDelivered
        `not-delivered`, with the peer's answer.
    """
    if peer.host is None or peer.port is None:
        raise NotDelivered(f"{peer.name}: has no host and port in the settings", "Add host and port.")
    ae = AE(ae_title=local.ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = local.network_timeout_s
    connections: list[evt.Event] = []
    try:
        context = tls.create_client_context(peer.tls) if peer.tls else None
    except (OSError, ValueError) as error:
        message = f"{peer.name}: certificate, key or authority cannot be used ({type(error).__name__})"
        raise NotDelivered(message, tls.REMEDY) from error
    association = ae.associate(
        peer.host,
        peer.port,
        contexts=[build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in contexts.items()],
        ae_title=peer.ae_title,
        ext_neg=[build_role(sop_class, scu_role=True, scp_role=True) for sop_class in roles],
        tls_args=(context, peer.host) if context else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, connections.append), *handlers],
    )
    try:
        if not association.is_established:
            reason = _describe_refusal(association) if connections else "does not answer at its host and port"
            raise NotDelivered(f"{peer.name}: {reason}")
        yield association
    finally:
        if association.is_established:
            association.release()


def c_echo(local: LocalEntity, peer: Peer) -> None:
    """Verify that a peer answers (C-ECHO).

    Parameters
    ----------
    local : LocalEntity
        The node's own title and timeouts.
    peer : Peer
        The peer.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    with open_association(local, peer, {Verification: list(SENT_SYNTAXES.values())}) as association:
        _check_status(association.send_c_echo(), peer, "C-ECHO")


def c_store(local: LocalEntity, peer: Peer, objects: Sequence[bytes]) -> None:
    """Send objects to a peer (C-STORE); the first object that the peer does not store raises an error.

    Parameters
    ----------
    local : LocalEntity
        The node's own title and timeouts.
    peer : Peer
        The peer.
    objects : sequence of bytes
        DICOM objects, each as a file.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    datasets = [dcmread(BytesIO(file)) for file in objects]
    contexts: dict[str, list[str]] = {}
    for dataset in datasets:
        syntaxes = contexts.setdefault(str(dataset.SOPClassUID), [])
        if (syntax := str(dataset.file_meta.TransferSyntaxUID)) not in syntaxes:
            syntaxes.append(syntax)
    with open_association(local, peer, contexts) as association:
        for dataset in datasets:
            name = dataset.SOPClassUID.name
            try:
                status = association.send_c_store(dataset)
            except ValueError as error:  # the peer accepted no context for it
                raise NotDelivered(f"{peer.name}: does not accept {name}") from error
            _check_status(status, peer, f"C-STORE of {name}")


def request_commitment(local: LocalEntity, peer: Peer, transaction: str, instances: Sequence[tuple[str, str]]) -> None:
    """Request storage commitment from a peer; its answer arrives later at the node's own port.

    Parameters
    ----------
    local : LocalEntity
        The node's own title and timeouts.
    peer : Peer
        The peer.
    transaction : str
        Transaction UID, which the answer repeats.
    instances : sequence of tuple of (str, str)
        Pairs of SOP class and SOP instance UID.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    request = Dataset()
    request.TransactionUID = transaction
    request.ReferencedSOPSequence = [_make_reference(*instance) for instance in instances]
    with open_association(local, peer, {StorageCommitmentPushModel: list(SENT_SYNTAXES.values())}) as association:
        status, _ = association.send_n_action(
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        _check_status(status, peer, "N-ACTION of storage commitment")


def report_commitment(
    local: LocalEntity,
    peer: Peer,
    transaction: str,
    stored: Sequence[tuple[str, str]],
    missing: Sequence[tuple[str, str]],
) -> None:
    """Report to a peer which of the requested instances are stored (N-EVENT-REPORT, PS3.4, J.3.3).

    Parameters
    ----------
    local : LocalEntity
        The node's own title and timeouts.
    peer : Peer
        The peer.
    transaction : str
        Transaction UID of the request.
    stored : sequence of tuple of (str, str)
        Pairs of SOP class and SOP instance UID that are stored.
    missing : sequence of tuple of (str, str)
        Pairs of SOP class and SOP instance UID that are not stored.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    report = Dataset()
    report.TransactionUID = transaction
    if stored:
        report.ReferencedSOPSequence = [_make_reference(*instance) for instance in stored]
    if missing:
        report.FailedSOPSequence = [_make_reference(*instance) for instance in missing]
        for item in report.FailedSOPSequence:
            item.FailureReason = 0x0112  # no such object instance
    contexts = {StorageCommitmentPushModel: list(SENT_SYNTAXES.values())}
    with open_association(local, peer, contexts, roles=[StorageCommitmentPushModel]) as association:
        event_type = 2 if missing else 1
        status, _ = association.send_n_event_report(
            report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        _check_status(status, peer, "N-EVENT-REPORT of storage commitment")


def _make_reference(sop_class: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
    return item


def _check_status(status: Dataset, peer: Peer, request: str) -> None:
    if "Status" not in status:
        raise NotDelivered(f"{peer.name}: no answer to {request}; the association ended")
    if status.Status not in STORED_STATUSES:
        raise NotDelivered(f"{peer.name}: refused {request} with status {status.Status:04X}H")


def _describe_refusal(association: Association) -> str:
    if association.is_rejected:
        answer = association.acceptor.primitive
        source, diagnostic = (answer.result_source or 0, answer.diagnostic or 0) if answer else (0, 0)
        reason = _REJECTION_REASONS.get((source, diagnostic), f"unknown reason ({source}, {diagnostic})")
        return f"rejected the association: {reason}"
    return "aborted the association" if association.is_aborted else "does not answer"
