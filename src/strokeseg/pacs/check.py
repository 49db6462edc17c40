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
from strokeseg.pacs import credentials, fetch, send, web
from strokeseg.pacs.settings import Local, Notice, Peer, Settings, Web
from strokeseg.pacs.storage import CLASSES, SENT, SENT_SYNTAXES

Part = TypeVar("Part", Local, Web, Notice)
_NOBODY = "STROKESEG-CHECK-OF-NOBODY"
_WAIT_S = 5.0  # somebody sits before it


@dataclass(frozen=True)
class Row:
    """One line of the table: whom, what was tried, whether it went well, and what was answered."""

    name: str
    tried: str
    good: bool
    said: str


def check(settings: Settings) -> Iterator[Row]:
    """Try everything that the settings name, all at once, and wait 5 s at most for each answer. Nothing is stored."""
    local = _soon(settings.node, "network_timeout_s")
    tries: list[Callable[[], list[Row]]] = [partial(_peer, settings, local, peer) for peer in settings.peer]
    for server in settings.web:
        tries.append(partial(_one, server.name, "QIDO-RS", partial(_query, _soon(server, "timeout_s"))))
    for receiver in settings.notice:
        tries.append(partial(_one, receiver.name, receiver.kind, partial(_reach, _soon(receiver, "timeout_s"))))
    if not tries:
        return
    with ThreadPoolExecutor(min(16, len(tries))) as threads:
        for rows in threads.map(lambda attempt: attempt(), tries):
            yield from rows


def _soon(part: Part, name: str) -> Part:
    return part.model_copy(update={name: min(_WAIT_S, getattr(part, name))})


def _peer(settings: Settings, local: Local, peer: Peer) -> list[Row]:
    if peer.host is None:
        return [Row(peer.name, "call", True, "only calls us: nothing to try")]
    rows = _one(peer.name, "C-ECHO", partial(send.echo, local, peer))
    if rows[0].good and peer.use:
        rows += _one(peer.name, "C-FIND", partial(_find, local, peer))
    if rows[0].good and (wanted := _wanted(settings, peer.name)):
        rows += _one(peer.name, "store", partial(_takes, local, peer, wanted))
    return rows


def _one(name: str, what: str, attempt: Callable[[], str | None]) -> list[Row]:
    try:
        return [Row(name, what, True, attempt() or "answers")]
    except StrokesegError as error:
        return [Row(name, what, False, error.message.removeprefix(f"{name}: "))]
    except (OSError, httpx2.HTTPError) as error:
        return [Row(name, what, False, f"cannot be reached ({type(error).__name__})")]


def _wanted(settings: Settings, name: str) -> list[str]:
    """Give the storage classes that the rules send to a peer."""
    what = {form for rule in settings.rule for delivery in rule.send if delivery.to == name for form in delivery.what}
    return sorted({CLASSES[form] for form in what})


def _takes(local: Local, peer: Peer, wanted: list[str]) -> str:
    syntaxes = list(SENT_SYNTAXES.values())
    with send.association(local, peer, {SENT[name]: syntaxes for name in wanted}) as opened:
        taken = {str(context.abstract_syntax) for context in opened.accepted_contexts}
    missing = [name for name in wanted if SENT[name] not in taken]
    if missing:
        raise NotDelivered(f"{peer.name}: does not take {', '.join(missing)}", "Allow it there.")
    return f"takes {', '.join(wanted)}"


def _find(local: Local, peer: Peer) -> str:
    fetch.find(local, peer, "STUDY", {"PatientID": _NOBODY, "StudyInstanceUID": ""})
    return f"answers; priors come by C-{str(peer.use).upper()}"


def _query(server: Web) -> None:
    web.series_of(web.open_client(server), server, {"PatientID": _NOBODY})


def _reach(receiver: Notice) -> str:
    """Connect, without telling anything."""
    if receiver.kind == "hl7":
        socket.create_connection((str(receiver.host), int(receiver.port or 0)), receiver.timeout_s).close()
        return "connects"
    credentials.for_httpx(receiver.auth, receiver.authority, receiver.timeout_s)
    url = httpx2.URL(str(receiver.url))
    port = url.port or (443 if url.scheme == "https" else 80)
    socket.create_connection((url.host, port), receiver.timeout_s).close()
    return "connects"
