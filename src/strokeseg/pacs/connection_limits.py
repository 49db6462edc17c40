"""What a connection to our port may be: from where, and how much it may announce."""

from __future__ import annotations

import logging
import socket
import time

from strokeseg.pacs.settings import Peer

log = logging.getLogger("strokeseg.node")

_MAX_PDU_BYTES = 2**20  # we negotiate 16 kB; a request for many contexts is longer


def read_pdu(line: socket.socket, seconds: float, length: int) -> bytearray:
    """Read a PDU or its head; pynetdicom would wait for as many bytes as a peer claims, for as long as some come.

    Raises
    ------
    OSError
        If more is announced than a PDU of ours may have, or it takes longer than ``seconds``.
    """
    if length > _MAX_PDU_BYTES:
        log.warning("connection closed: a PDU of %d bytes was announced", length)
        raise OSError("a PDU beyond the bound")
    found, end = bytearray(), time.monotonic() + seconds
    while len(found) < length:
        if time.monotonic() > end:
            raise TimeoutError("the PDU took too long")
        part = line.recv(min(65536, length - len(found)))
        if not part:
            break
        found += part
    return found


def is_allowed_address(peer: Peer, address: str) -> bool:
    """Return whether a peer's associations may come from an address."""
    allowed = peer.from_addresses or ((peer.host,) if peer.host else ())
    return any(address in _resolve_addresses(host) for host in allowed)


def _resolve_addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return {host}
