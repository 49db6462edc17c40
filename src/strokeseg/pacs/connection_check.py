"""`strokeseg node --check`: whether each peer, server and receiver of the settings answers, and what it takes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import httpx2

from strokeseg.errors import NotDelivered, StrokesegError
from strokeseg.pacs import credentials, dicomweb, query_retrieve, scu
from strokeseg.pacs.settings import DicomwebServer, LocalEntity, NodeSettings, NoticeTarget, Peer
from strokeseg.pacs.sop_classes import CLASS_OF_FORMAT, SENT_CLASSES, SENT_SYNTAXES

TimedSettings = TypeVar("TimedSettings", LocalEntity, DicomwebServer, NoticeTarget)
_TEST_PATIENT_ID = "STROKESEG-CHECK-OF-NOBODY"
_MAX_WAIT_S = 5.0  # somebody sits before it


@dataclass(frozen=True)
class CheckResult:
    """One line of the table: whom, what was tried, whether it went well, and what was answered."""

    name: str
    tried: str
    good: bool
    said: str


def check_connections(settings: NodeSettings) -> Iterator[CheckResult]:
    """Try everything that the settings name, all at once, and wait 5 s at most for each answer. Nothing is stored."""
    local = _limit_timeout(settings.node, "network_timeout_s")
    tries: list[Callable[[], list[CheckResult]]] = [
        partial(_check_peer, settings, local, peer) for peer in settings.peer
    ]
    for server in settings.web:
        tries.append(
            partial(_run_check, server.name, "QIDO-RS", partial(_check_dicomweb, _limit_timeout(server, "timeout_s")))
        )
    for receiver in settings.notice:
        tries.append(
            partial(
                _run_check,
                receiver.name,
                receiver.kind,
                partial(_check_notice_target, _limit_timeout(receiver, "timeout_s")),
            )
        )
    if not tries:
        return
    with ThreadPoolExecutor(min(16, len(tries))) as threads:
        for rows in threads.map(lambda attempt: attempt(), tries):
            yield from rows


def _limit_timeout(part: TimedSettings, name: str) -> TimedSettings:
    return part.model_copy(update={name: min(_MAX_WAIT_S, getattr(part, name))})


def _check_peer(settings: NodeSettings, local: LocalEntity, peer: Peer) -> list[CheckResult]:
    if peer.host is None:
        return [CheckResult(peer.name, "call", True, "only calls us: nothing to try")]
    rows = _run_check(peer.name, "C-ECHO", partial(scu.c_echo, local, peer))
    if rows[0].good and peer.use:
        rows += _run_check(peer.name, "C-FIND", partial(_check_query, local, peer))
    if rows[0].good and (wanted := _list_required_classes(settings, peer.name)):
        rows += _run_check(peer.name, "store", partial(_check_storage, local, peer, wanted))
    return rows


def _run_check(name: str, what: str, attempt: Callable[[], str | None]) -> list[CheckResult]:
    try:
        return [CheckResult(name, what, True, attempt() or "answers")]
    except StrokesegError as error:
        return [CheckResult(name, what, False, error.message.removeprefix(f"{name}: "))]
    except (OSError, httpx2.HTTPError) as error:
        return [CheckResult(name, what, False, f"cannot be reached ({type(error).__name__})")]


def _list_required_classes(settings: NodeSettings, name: str) -> list[str]:
    """Return the storage classes that the rules send to a peer."""
    what = {form for rule in settings.rule for delivery in rule.send if delivery.to == name for form in delivery.what}
    return sorted({CLASS_OF_FORMAT[form] for form in what})


def _check_storage(local: LocalEntity, peer: Peer, wanted: list[str]) -> str:
    syntaxes = list(SENT_SYNTAXES.values())
    with scu.open_association(local, peer, {SENT_CLASSES[name]: syntaxes for name in wanted}) as opened:
        taken = {str(context.abstract_syntax) for context in opened.accepted_contexts}
    missing = [name for name in wanted if SENT_CLASSES[name] not in taken]
    if missing:
        raise NotDelivered(f"{peer.name}: does not take {', '.join(missing)}", "Allow it there.")
    return f"takes {', '.join(wanted)}"


def _check_query(local: LocalEntity, peer: Peer) -> str:
    query_retrieve.c_find(local, peer, "STUDY", {"PatientID": _TEST_PATIENT_ID, "StudyInstanceUID": ""})
    return f"answers; priors come by C-{str(peer.use).upper()}"


def _check_dicomweb(server: DicomwebServer) -> None:
    dicomweb.search_series(dicomweb.open_client(server), server, {"PatientID": _TEST_PATIENT_ID})


def _check_notice_target(receiver: NoticeTarget) -> str:
    """Connect, without telling anything."""
    if receiver.kind == "hl7":
        socket.create_connection((str(receiver.host), int(receiver.port or 0)), receiver.timeout_s).close()
        return "connects"
    credentials.open_httpx_auth(receiver.auth, receiver.authority, receiver.timeout_s)
    url = httpx2.URL(str(receiver.url))
    port = url.port or (443 if url.scheme == "https" else 80)
    socket.create_connection((url.host, port), receiver.timeout_s).close()
    return "connects"
