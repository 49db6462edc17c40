"""Request bodies in blocks, written to the disk by a thread: the event loop serves everybody else meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fastapi import Request
from starlette.requests import ClientDisconnect

from strokeseg.errors import TooLarge

_BLOCK_BYTES = 2**18


async def iterate_blocks(request: Request) -> AsyncIterator[bytes]:
    """Yield a body in blocks of about 256 kB, so that each is worth a thread's time.

    Yields
    ------
    bytes
        The next block. If the connection breaks, what arrived comes first.

    Raises
    ------
    ClientDisconnect
        If the connection breaks.
    """
    block = bytearray()
    try:
        async for part in request.stream():
            block += part
            if len(block) >= _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
    except ClientDisconnect:
        if block:
            yield bytes(block)
        raise
    if block:
        yield bytes(block)


async def receive_file(
    request: Request, path: Path, max_bytes: int, error: TooLarge, count: Callable[[int], None]
) -> None:
    """Write a body to a file.

    Parameters
    ----------
    request : Request
        The request.
    path : Path
        The file.
    max_bytes : int
        Maximum size.
    error : TooLarge
        Raised for a larger body.
    count : callable
        Called in a thread with the size of each block before it is written; may raise an error.

    Raises
    ------
    TooLarge
        ``error``.
    ClientDisconnect
        If the connection breaks; the file then has what arrived.
    """
    size = 0
    with path.open("wb") as stream:

        def write(block: bytes) -> None:
            count(len(block))
            stream.write(block)

        async for block in iterate_blocks(request):
            size += len(block)
            if size > max_bytes:
                raise error
            await asyncio.to_thread(write, block)
