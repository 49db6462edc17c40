"""Limits on the number of connections, in all and for each address, kept where connections are accepted.

A connection counts from its acceptance until its descriptor is closed, so that a client that never finishes a TLS
handshake counts too. Database, files and worker processes keep descriptors of their own, whatever clients do.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from strokeseg.errors import UsageError
from strokeseg.web.auth.rate_limit import get_network

log = logging.getLogger("strokeseg.serve")
RESERVED_DESCRIPTORS = 200
"""Descriptors that are never given to connections: those of the database, the storage and the worker processes."""
_MAX_DESCRIPTORS = 65_536
_MIN_CONNECTIONS = 16
_USUAL_LIMIT = 1024
_LOG_S = 60.0
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 10\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%b"
)
_BODY = (
    b'{"type":"urn:strokeseg:error:busy","title":"Service Unavailable","status":503,"detail":"too many connections",'
    b'"code":"busy","remedy":"Close other connections, or wait."}'
)


class MinuteLog:
    """Logs a repeated event at most once a minute, with the number of times it happened.

    Parameters
    ----------
    clock : callable
        Seconds by any clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._logged: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, message: str) -> None:
        """Count an event; the message is a sentence of ours, without a value from a client."""
        with self._lock:
            self._counts[message] += 1
            now = self._clock()
            if now - self._logged.get(message, -_LOG_S) < _LOG_S:
                return
            self._logged[message] = now
            times = self._counts.pop(message)
        log.warning("%s (%d since the last such line)", message, times)


class ConnectionLimits:
    """Counts the open connections, and says whether another one may be added.

    Parameters
    ----------
    most : int
        Connections in all.
    most_per_address : int
        Connections from one address, or from one /64 network of IPv6.
    proxies : iterable of str
        Addresses and networks that forward the requests of many clients: only ``most`` applies to them.
    """

    def __init__(self, most: int, most_per_address: int, proxies: Iterable[str] = ()) -> None:
        self.most, self.most_per_address = most, most_per_address
        self._proxies = list(proxies)
        self._by_network: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Number of open connections."""
        return self._by_network.total()

    def add(self, address: str) -> str | None:
        """Count a connection from an address.

        Parameters
        ----------
        address : str
            The sender's address.

        Returns
        -------
        str or None
            Why it is refused, without the address; None if it was counted.
        """
        network = get_network(address)
        if self.count >= self.most:
            return f"a connection was refused: {self.most} are open"
        if self._by_network[network] >= self.most_per_address and not self._is_proxy(address):
            return f"a connection was refused: {self.most_per_address} are open from its address"
        self._by_network[network] += 1
        return None

    def remove(self, address: str) -> None:
        """Take a connection off again."""
        network = get_network(address)
        self._by_network[network] -= 1
        if self._by_network[network] <= 0:
            del self._by_network[network]

    def _is_proxy(self, address: str) -> bool:
        with contextlib.suppress(ValueError):
            parsed = ipaddress.ip_address(address.split("%")[0])
            for proxy in self._proxies:
                with contextlib.suppress(ValueError):
                    if proxy == "*" or parsed in ipaddress.ip_network(proxy, strict=False):
                        return True
        return False


class _Connection(socket.socket):
    """An accepted connection that is taken off the count when its descriptor is closed."""

    _release: Callable[[], None] | None = None

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        super().close()
        if self._release is not None:
            release, self._release = self._release, None
            release()


class LimitedListener(socket.socket):
    """A listening socket that closes connections beyond the limits at once.

    Parameters
    ----------
    family : int
        Address family.
    limits : ConnectionLimits
        The limits; several listeners may share them.
    is_plain : bool
        Whether a refused client is told so by status 503; without it, as with TLS, the connection is just closed.
    """

    def __init__(self, family: int, limits: ConnectionLimits, is_plain: bool = True) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._limits, self._is_plain = limits, is_plain
        self._minute_log = MinuteLog()
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Returns
        -------
        connection : socket
            The connection.
        address : object
            The sender's address.

        Raises
        ------
        ConnectionAbortedError
            If the connection was refused; asyncio goes on with the next one.
        """
        try:
            descriptor, address = self._accept()  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._refuse_without_descriptor()
            raise ConnectionAbortedError from None
        connection = _Connection(self.family, self.type, self.proto, fileno=descriptor)
        reason = self._limits.add(address[0])
        if reason is not None:
            self._minute_log.add(reason)
            self._refuse(connection)
            raise ConnectionAbortedError
        connection._release = lambda: self._limits.remove(address[0])
        return connection, address

    def close(self) -> None:
        """Close the socket and the spare descriptor."""
        super().close()
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1

    def _refuse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.setblocking(False)
            if self._is_plain:
                connection.send(_BUSY % (len(_BODY), _BODY))
                connection.recv(2**16)  # what is unread would turn the end of the connection into a reset
        connection.close()

    def _refuse_without_descriptor(self) -> None:
        """Accept and close one connection with the spare descriptor: otherwise the event loop would try for ever."""
        self._minute_log.add("a connection was refused: the process has no file descriptor left")
        os.close(self._spare)
        try:
            with contextlib.suppress(OSError):
                descriptor, _ = self._accept()  # type: ignore[attr-defined]
                os.close(descriptor)
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def fit_to_descriptors(wanted: int) -> int:
    """Raise this process's limit of file descriptors, and return how many connections fit into it.

    A connection takes two descriptors: its own, and the file that its body is written to.

    Parameters
    ----------
    wanted : int
        Number of connections.

    Returns
    -------
    int
        ``wanted``, or fewer.
    """
    soft, hard = _read_descriptor_limits()
    if soft != resource.RLIM_INFINITY:
        highest = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, highest), hard))
            soft = max(soft, highest)
        fitting = max(_MIN_CONNECTIONS, (soft - RESERVED_DESCRIPTORS) // 2)
        if fitting < wanted:
            log.warning("only %d connections at a time: the process may have %d open files", fitting, soft)
            return fitting
    return wanted


def _read_descriptor_limits() -> tuple[int, int]:
    """Return the soft and the hard limit, also where a filter of system calls, as in our units, forbids the call."""
    with contextlib.suppress(OSError):
        return resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = Path("/proc/self/limits").read_text().partition("Max open files")[2].split()
        return int(words[0]), int(words[1])
    return _USUAL_LIMIT, _USUAL_LIMIT


def open_listeners(host: str, port: int, limits: ConnectionLimits, is_plain: bool) -> list[LimitedListener]:
    """Open a listener for each address of a host, bound and not listening yet.

    Parameters
    ----------
    host : str
        Name or address of this machine.
    port : int
        The port.
    limits : ConnectionLimits
        The limits, which they share.
    is_plain : bool
        Whether they take HTTP without TLS.

    Returns
    -------
    list of LimitedListener
        The listeners.

    Raises
    ------
    UsageError
        `usage`, if the address or port cannot be used.
    """
    listeners: list[LimitedListener] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            listener = LimitedListener(family, limits, is_plain)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
    except OSError as error:
        for listener in listeners:
            listener.close()
        message = f"--host, --port: cannot listen there ({error.strerror or type(error).__name__})"
        raise UsageError(message, "Choose a free port, and an address of this machine.") from None
    return listeners
