"""Silence the warnings and log messages of pydicom, nibabel and Pillow."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARIES = ("pydicom", "nibabel", "PIL")


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Suppress warnings and log messages of pydicom, nibabel and Pillow inside the context.

    Their messages may hold patient data (pydicom quotes invalid values) and must not reach stderr. Warnings and log
    levels belong to the whole process: messages of these libraries from other threads are suppressed too.
    """
    loggers = [logging.getLogger(name) for name in (*_LIBRARIES, "nibabel.global")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for name in _LIBRARIES:
            warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
