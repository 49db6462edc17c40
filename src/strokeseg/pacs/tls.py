"""TLS for associations, as the profile of PS3.15, B.9 (BCP 195) asks: 1.2 and newer."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from strokeseg.pacs.settings import TlsFiles

_HANDSHAKE_S = 10.0
_NO_PASSPHRASE = ""  # OpenSSL would ask the terminal for that of a locked key


class _DeferredHandshakeContext(ssl.SSLContext):
    """Leaves the handshake to the association's own thread: who connects and says nothing holds up nobody else."""

    def wrap_socket(self, sock: socket.socket, server_side: bool = False, *_: Any, **__: Any) -> ssl.SSLSocket:
        sock.settimeout(_HANDSHAKE_S)
        return super().wrap_socket(sock, server_side, do_handshake_on_connect=False)


def create_server_context(tls: TlsFiles) -> ssl.SSLContext:
    """Return the context of a listening side; with an authority, a peer must show a certificate of it.

    Raises
    ------
    OSError, ssl.SSLError
        If a file cannot be read or is no certificate or key.
    """
    context = _DeferredHandshakeContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key, _NO_PASSPHRASE)
    if tls.authority is not None:
        context.load_verify_locations(tls.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def create_client_context(tls: TlsFiles) -> ssl.SSLContext:
    """Return the context of a calling side. The peer's certificate is checked against the authority, or the system's.

    Raises
    ------
    OSError, ssl.SSLError
        As for :func:`server`.
    """
    context = ssl.create_default_context(cafile=None if tls.authority is None else str(tls.authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key, _NO_PASSPHRASE)
    return context
