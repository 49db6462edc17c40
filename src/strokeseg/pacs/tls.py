"""TLS for associations according to the profile of PS3.15, B.9 (BCP 195): version 1.2 or newer."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from strokeseg.pacs.settings import TlsFiles

REMEDY = "Give PEM files; the key must belong to the certificate and have no passphrase."
_HANDSHAKE_TIMEOUT_S = 10.0
_NO_PASSPHRASE = ""  # without it, OpenSSL would ask the terminal for the passphrase of a locked key


class _DeferredHandshakeContext(ssl.SSLContext):
    """Run the handshake in the association's own thread, so that a silent connection does not block others."""

    def wrap_socket(self, sock: socket.socket, server_side: bool = False, *_: Any, **__: Any) -> ssl.SSLSocket:
        sock.settimeout(_HANDSHAKE_TIMEOUT_S)
        return super().wrap_socket(sock, server_side, do_handshake_on_connect=False)


def create_server_context(tls: TlsFiles) -> ssl.SSLContext:
    """Create the TLS context of the listening side; with an authority, peers must show a certificate of it.

    Parameters
    ----------
    tls : TlsFiles
        Certificate, key and authority.

    Returns
    -------
    ssl.SSLContext
        The context.

    Raises
    ------
    OSError, ssl.SSLError
        If a file cannot be read or is not a certificate or key.
    """
    context = _DeferredHandshakeContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key, _NO_PASSPHRASE)
    if tls.authority is not None:
        context.load_verify_locations(tls.authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def create_client_context(tls: TlsFiles) -> ssl.SSLContext:
    """Create the TLS context of the calling side, which verifies the peer against the authority or the system's.

    Parameters
    ----------
    tls : TlsFiles
        Certificate, key and authority.

    Returns
    -------
    ssl.SSLContext
        The context.

    Raises
    ------
    OSError, ssl.SSLError
        As for :func:`create_server_context`.
    """
    context = ssl.create_default_context(cafile=None if tls.authority is None else str(tls.authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key, _NO_PASSPHRASE)
    return context
