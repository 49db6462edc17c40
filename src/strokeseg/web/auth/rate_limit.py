"""A limit on requests with a wrong token per address.

Valid tokens are always accepted: otherwise anyone behind the same address could lock out a whole hospital. The limit
only bounds the work and the log lines that failures cause; a token of 256 random bits cannot be guessed at any rate.
"""

from __future__ import annotations

import ipaddress
import time

from sqlalchemy import Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from strokeseg.web.auth import credentials

_MAX_ADDRESSES = 10_000


def record_failure(engine: Engine, address: str, window_s: float) -> tuple[int, float]:
    """Count one more failure.

    Parameters
    ----------
    engine : Engine
        The server's database.
    address : str
        The sender's address; IPv6 addresses are counted per /64 network, which belongs to one customer.
    window_s : float
        How long failures are counted together, from the first one on.

    Returns
    -------
    count : int
        Number of failures within the window, including this one.
    wait_s : float
        Seconds until they expire.
    """
    table, now, network = credentials.failures, time.time(), get_network(address)
    increment = update(table).where(table.c.address == network, table.c.until > now).values(count=table.c.count + 1)
    query = select(table.c.count.label("times"), table.c.until).where(table.c.address == network)
    with engine.begin() as connection:
        if connection.execute(increment).rowcount == 0:
            connection.execute(delete(table).where(table.c.until <= now))
            stored = connection.execute(select(func.count()).select_from(table)).scalar_one()
            if stored >= _MAX_ADDRESSES:
                oldest = select(table.c.address).order_by(table.c.until).limit(stored - _MAX_ADDRESSES + 1)
                connection.execute(delete(table).where(table.c.address.in_(oldest.scalar_subquery())))
            try:
                with connection.begin_nested():
                    connection.execute(insert(table).values(address=network, count=1, until=now + window_s))
            except IntegrityError:
                # Another process counted the first failure at the same moment.
                connection.execute(increment)
        row = connection.execute(query).first()
    return (1, window_s) if row is None else (row.times, max(1.0, row.until - now))


def get_network(address: str) -> str:
    """Return the network whose addresses are counted together."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
