"""The calling side of DIMSE: echo, send, ask for storage commitment, and answer it."""

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

STORED_STATUSES = (0x0000, 0xB000, 0xB006, 0xB007)  # PS3.4, B.2.3: with a warning it is stored all the same
_REJECTION_REASONS = {  # PS3.8, 9.3.4
    (1, 1): "no reason given",
    (1, 2): "our application context is not supported",
    (1, 3): "our calling AE title is not recognised",
    (1, 7): "its called AE title is not recognised",
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
    """Call a peer.

    Parameters
    ----------
    contexts : Contexts
        SOP classes, each with the transfer syntaxes to offer.
    roles : sequence of str, default: ()
        Of those the classes for which we offer to be SCP.

    Raises
    ------
    NotDelivered
        `not-delivered`, with what the peer answered.
    """
    if peer.host is None or peer.port is None:
        raise NotDelivered(f"{peer.name}: has no host and port in the settings", "Give them.")
    ae = AE(ae_title=local.ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = local.network_timeout_s
    connected: list[evt.Event] = []
    try:
        context = tls.create_client_context(peer.tls) if peer.tls else None
    except (OSError, ValueError) as error:
        said = f"{peer.name}: certificate, key or authority cannot be used ({type(error).__name__})"
        raise NotDelivered(
            said, "Give PEM files; the key must belong to the certificate and have no pass phrase."
        ) from error
    opened = ae.associate(
        peer.host,
        peer.port,
        contexts=[build_context(sop_class, list(syntaxes)) for sop_class, syntaxes in contexts.items()],
        ae_title=peer.ae_title,
        ext_neg=[build_role(sop_class, scu_role=True, scp_role=True) for sop_class in roles],
        tls_args=(context, peer.host) if context else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, connected.append), *handlers],
    )
    try:
        if not opened.is_established:
            raise NotDelivered(
                f"{peer.name}: {_describe_refusal(opened) if connected else 'does not answer at its host and port'}"
            )
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def c_echo(local: LocalEntity, peer: Peer) -> None:
    """Ask whether a peer is there (C-ECHO).

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    with open_association(local, peer, {Verification: list(SENT_SYNTAXES.values())}) as opened:
        _check_status(opened.send_c_echo(), peer, "C-ECHO")


def c_store(local: LocalEntity, peer: Peer, objects: Sequence[bytes]) -> None:
    """Send objects, each a whole file; all of them, or the error of the first that was not stored.

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
    with open_association(local, peer, contexts) as opened:
        for dataset in datasets:
            name = dataset.SOPClassUID.name
            try:
                status = opened.send_c_store(dataset)
            except ValueError as error:  # no context was accepted for it
                raise NotDelivered(f"{peer.name}: does not take {name}") from error
            _check_status(status, peer, f"C-STORE of {name}")


def request_commitment(local: LocalEntity, peer: Peer, transaction: str, instances: Sequence[tuple[str, str]]) -> None:
    """Ask a peer to commit to keep instances; its answer comes to our own port later.

    Parameters
    ----------
    transaction : str
        UID that the answer will have.
    instances : sequence of tuple of (str, str)
        Pairs of SOP class and SOP instance UID.

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = [_reference(*pair) for pair in instances]
    with open_association(local, peer, {StorageCommitmentPushModel: list(SENT_SYNTAXES.values())}) as opened:
        status, _ = opened.send_n_action(asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        _check_status(status, peer, "N-ACTION of storage commitment")


def report_commitment(
    local: LocalEntity, peer: Peer, transaction: str, have: Sequence[tuple[str, str]], miss: Sequence[tuple[str, str]]
) -> None:
    """Tell a peer which of the instances that it asked for are here (N-EVENT-REPORT, PS3.4, J.3.3).

    Raises
    ------
    NotDelivered
        `not-delivered`.
    """
    told = Dataset()
    told.TransactionUID = transaction
    if have:
        told.ReferencedSOPSequence = [_reference(*pair) for pair in have]
    if miss:
        told.FailedSOPSequence = [_reference(*pair) for pair in miss]
        for item in told.FailedSOPSequence:
            item.FailureReason = 0x0112  # no such object instance
    contexts = {StorageCommitmentPushModel: list(SENT_SYNTAXES.values())}
    with open_association(local, peer, contexts, roles=[StorageCommitmentPushModel]) as opened:
        kind = 2 if miss else 1
        status, _ = opened.send_n_event_report(
            told, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        _check_status(status, peer, "N-EVENT-REPORT of storage commitment")


def _reference(sop_class: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
    return item


def _check_status(status: Dataset, peer: Peer, what: str) -> None:
    if "Status" not in status:
        raise NotDelivered(f"{peer.name}: no answer to {what}; the association ended")
    if status.Status not in STORED_STATUSES:
        raise NotDelivered(f"{peer.name}: refused {what} with status {status.Status:04X}H")


def _describe_refusal(opened: Association) -> str:
    if opened.is_rejected:
        said = opened.acceptor.primitive
        source, diagnostic = (said.result_source or 0, said.diagnostic or 0) if said else (0, 0)
        reason = _REJECTION_REASONS.get((source, diagnostic), f"for a reason of its own ({source}, {diagnostic})")
        return f"rejected the association: {reason}"
    return "aborted the association" if opened.is_aborted else "does not answer"
