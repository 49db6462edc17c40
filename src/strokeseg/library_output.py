"""Silence the warnings and log messages of pydicom, nibabel, Pillow and highdicom, in one thread or task at a time."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_LIBRARIES = ("pydicom", "nibabel", "PIL", "highdicom")
# Loggers of modules that are imported only when a file needs them. A filter must lie on each logger itself.
_LATE_LOGGERS = (
    "pydicom.pixels.decoders.base",
    "pydicom.pixels.encoders.base",
    "pydicom.pixels.utils",
    "nibabel.global",
    "nibabel.dft",
    "PIL.Image",
    "PIL.ImageFile",
    "PIL.PngImagePlugin",
    "PIL.TiffImagePlugin",
)
_is_silent: ContextVar[bool] = ContextVar("is_silent", default=False)
_lock = threading.Lock()


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Suppress warnings and log messages of pydicom, nibabel, Pillow and highdicom inside the context.

    Their messages may hold patient data (pydicom quotes invalid values) and must not reach a stream or a log file.
    Levels and filters belong to the whole process, so none is changed and changed back: a second thread would restore
    what the first one set. One filter, which stays installed, asks whether the calling thread or task is inside this
    context. Other threads keep their messages; a thread pool inherits the context by `contextvars.copy_context`.
    """
    _install()
    token = _is_silent.set(True)
    try:
        yield
    finally:
        _is_silent.reset(token)


def _is_library(module: str) -> bool:
    return module.partition(".")[0] in _LIBRARIES


class _LogFilter(logging.Filter):
    """Log filter that drops a library's records in a silent context."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (_is_silent.get() and _is_library(record.name))


class _ModulePattern:
    """Pattern of a warning filter, in place of a compiled expression.

    In a silent context it matches every module but StrokeSeg's own: a library may attribute its warning to its caller.
    """

    def match(self, module: str) -> bool:
        return _is_silent.get() and module.partition(".")[0] != "strokeseg"


_log_filter = _LogFilter()
_warning_filter: Any = ("ignore", None, Warning, _ModulePattern(), 0)


def _install() -> None:
    """Put the filters first, if they are not.

    A `catch_warnings` elsewhere may have removed the filter of warnings, and a logger may be new.
    """
    with _lock:
        filters: list[Any] = warnings.filters  # type: ignore[assignment]
        if not filters or filters[0] is not _warning_filter:
            filters.insert(0, _warning_filter)
            for index in range(len(filters) - 1, 0, -1):
                if filters[index] is _warning_filter:
                    del filters[index]
        names = {*_LIBRARIES, *_LATE_LOGGERS, *filter(_is_library, list(logging.root.manager.loggerDict))}
        for name in names:
            logging.getLogger(name).addFilter(_log_filter)


_install()  # before threads start: a `catch_warnings` that a thread leaves cannot remove it then
