"""Silence of the readers that StrokeSeg stands on: what they find is raised or remarked, never printed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARIES = ("pydicom", "nibabel", "PIL")


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Keep pydicom, nibabel and Pillow from warning and logging while it lasts.

    Their words may hold a patient's data (pydicom quotes a value that breaks a rule), and none of them may reach
    stderr. Warnings and log levels belong to the whole process: what other threads warn of meanwhile through these
    libraries is silent too.
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
