"""Check for `strokeseg node --check` whether each peer, server and notice target answers, and what it accepts."""

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
_MAX_WAIT_S = 5.0  # the user waits for the answer


@dataclass(frozen=True)
class CheckResult:
    """One line of the table; the field names are the keys of `node --check --json`.

    Attributes
    ----------
    name : str
        Name of the peer, server or notice target.
    tried : str
        What was tried.
    good : bool
        Whether it succeeded.
    said : str
        What was answered.
    """

    name: str
    tried: str
    good: bool
    said: str


def check_connections(settings: NodeSettings) -> Iterator[CheckResult]:
    """Check all connections of the settings at once, with at most 5 s for each answer. Nothing is stored.

    Parameters
    ----------
    settings : NodeSettings
        The node's settings.

    Yields
    ------
    CheckResult
        One or more results per connection.
    """
    local = _limit_timeout(settings.node, "network_timeout_s")
    checks: list[Callable[[], list[CheckResult]]] = [
        partial(_check_peer, settings, local, peer) for peer in settings.peer
    ]
    for server in settings.web:
        attempt = partial(_check_dicomweb, _limit_timeout(server, "timeout_s"))
        checks.append(partial(_run_check, server.name, "QIDO-RS", attempt))
    for target in settings.notice:
        connect = partial(_check_notice_target, _limit_timeout(target, "timeout_s"))
        checks.append(partial(_run_check, target.name, target.kind, connect))
    if not checks:
        return
    with ThreadPoolExecutor(min(16, len(checks))) as threads:
        for results in threads.map(lambda check: check(), checks):
            yield from results


def _limit_timeout(section: TimedSettings, name: str) -> TimedSettings:
    return section.model_copy(update={name: min(_MAX_WAIT_S, getattr(section, name))})


def _check_peer(settings: NodeSettings, local: LocalEntity, peer: Peer) -> list[CheckResult]:
    if peer.host is None:
        return [CheckResult(peer.name, "call", True, "has no host; it only calls this node")]
    results = _run_check(peer.name, "C-ECHO", partial(scu.c_echo, local, peer))
    if results[0].good and peer.use:
        results += _run_check(peer.name, "C-FIND", partial(_check_query, local, peer))
    if results[0].good and (required := _list_required_classes(settings, peer.name)):
        results += _run_check(peer.name, "store", partial(_check_storage, local, peer, required))
    return results


def _run_check(name: str, subject: str, attempt: Callable[[], str | None]) -> list[CheckResult]:
    try:
        return [CheckResult(name, subject, True, attempt() or "answers")]
    except StrokesegError as error:
        return [CheckResult(name, subject, False, error.message.removeprefix(f"{name}: "))]
    except (OSError, httpx2.HTTPError) as error:
        return [CheckResult(name, subject, False, f"cannot be reached ({type(error).__name__})")]


def _list_required_classes(settings: NodeSettings, name: str) -> list[str]:
    """Return the storage classes that the rules send to a peer."""
    formats = {what for rule in settings.rule for target in rule.send if target.to == name for what in target.what}
    return sorted({CLASS_OF_FORMAT[format_name] for format_name in formats})


def _check_storage(local: LocalEntity, peer: Peer, required: list[str]) -> str:
    syntaxes = list(SENT_SYNTAXES.values())
    with scu.open_association(local, peer, {SENT_CLASSES[name]: syntaxes for name in required}) as association:
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    missing = [name for name in required if SENT_CLASSES[name] not in accepted]
    if missing:
        raise NotDelivered(f"{peer.name}: does not accept {', '.join(missing)}", "Allow these classes at the peer.")
    return f"accepts {', '.join(required)}"


def _check_query(local: LocalEntity, peer: Peer) -> str:
    query_retrieve.c_find(local, peer, "STUDY", {"PatientID": _TEST_PATIENT_ID, "StudyInstanceUID": ""})
    return f"answers; priors are fetched by C-{str(peer.use).upper()}"


def _check_dicomweb(server: DicomwebServer) -> None:
    dicomweb.search_series(dicomweb.open_client(server), server, {"PatientID": _TEST_PATIENT_ID})


def _check_notice_target(target: NoticeTarget) -> str:
    """Connect without sending a notice."""
    if target.kind == "hl7":
        socket.create_connection((str(target.host), int(target.port or 0)), target.timeout_s).close()
        return "connects"
    credentials.open_httpx_auth(target.auth, target.authority, target.timeout_s)
    url = httpx2.URL(str(target.url))
    port = url.port or (443 if url.scheme == "https" else 80)
    socket.create_connection((url.host, port), target.timeout_s).close()
    return "connects"
