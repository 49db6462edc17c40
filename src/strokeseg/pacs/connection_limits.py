"""Limits of a connection to the node's port: where it may come from, and how large its PDUs may be."""

from __future__ import annotations

import logging
import socket
import time

from strokeseg.pacs.settings import Peer

log = logging.getLogger("strokeseg.node")

_MAX_PDU_BYTES = 2**20  # the node negotiates 16 kB; a request with many presentation contexts is longer


def read_pdu(connection: socket.socket, timeout_s: float, length: int) -> bytearray:
    """Read a PDU or its header within a time limit.

    pynetdicom itself would wait for the announced number of bytes for as long as some arrive.

    Parameters
    ----------
    connection : socket.socket
        The connection.
    timeout_s : float
        Time limit for all bytes in seconds.
    length : int
        Number of bytes to read.

    Returns
    -------
    bytearray
        The bytes; fewer if the peer has closed the connection.

    Raises
    ------
    OSError
        If the announced PDU is too large, or reading takes longer than ``timeout_s``.
    """
    if length > _MAX_PDU_BYTES:
        log.warning("connection closed: the peer announced a PDU of %d bytes", length)
        raise OSError("the PDU exceeds the size limit")
    content, end = bytearray(), time.monotonic() + timeout_s
    while len(content) < length:
        if time.monotonic() > end:
            raise TimeoutError("the PDU took too long")
        chunk = connection.recv(min(65536, length - len(content)))
        if not chunk:
            break
        content += chunk
    return content


def is_allowed_address(peer: Peer, address: str) -> bool:
    """Return whether associations of a peer may come from an address."""
    allowed = peer.from_addresses or ((peer.host,) if peer.host else ())
    return any(address in _resolve_addresses(host) for host in allowed)


def _resolve_addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return {host}
