"""How often an address may come with a wrong token.

A right token is let in all the same: else whoever sits behind the same address could lock a hospital out. What the
limit bounds is the work and the log that failures cause; 256 random bits are not guessed at any rate.
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
        Of the server's database.
    address : str
        Where it came from; of IPv6 the first half counts, which is one customer's.
    window_s : float
        How long it is remembered, from the first one on.

    Returns
    -------
    tuple of (int, float)
        How many there were within the window, this one included, and the seconds until they are forgotten.
    """
    table, now, place = credentials.failures, time.time(), get_network(address)
    more = update(table).where(table.c.address == place, table.c.until > now).values(count=table.c.count + 1)
    asked = select(table.c.count.label("times"), table.c.until).where(table.c.address == place)
    with engine.begin() as connection:
        if connection.execute(more).rowcount == 0:
            connection.execute(delete(table).where(table.c.until <= now))
            held = connection.execute(select(func.count()).select_from(table)).scalar_one()
            if held >= _MAX_ADDRESSES:
                oldest = select(table.c.address).order_by(table.c.until).limit(held - _MAX_ADDRESSES + 1)
                connection.execute(delete(table).where(table.c.address.in_(oldest.scalar_subquery())))
            try:
                with connection.begin_nested():
                    connection.execute(insert(table).values(address=place, count=1, until=now + window_s))
            except IntegrityError:
                # Another worker counted the first one at this moment.
                connection.execute(more)
        row = connection.execute(asked).first()
    return (1, window_s) if row is None else (row.times, max(1.0, row.until - now))


def get_network(address: str) -> str:
    """Return what of an address is counted together."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
