"""The log of the server and of the node: one JSON object per line on stderr, without a value of a patient.

The messages of StrokeSeg contain codes and IDs only. Those of other packages may quote what they work on, as may the
text of an exception, so that only their place is logged. `strokeseg --debug` adds messages and tracebacks.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from strokeseg.errors import describe_fault

OWN_LOGS = ("strokeseg.node", "strokeseg.serve")


class JsonFormatter(logging.Formatter):
    """Formats a log record as a JSON object.

    Parameters
    ----------
    debug : bool
        Whether to add messages of other packages and tracebacks, which may contain values of patients.
    """

    def __init__(self, debug: bool = False) -> None:
        super().__init__()
        self._debug = debug

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; its attribute ``fields`` is a dictionary of more entries."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "log": record.name,
            "message": self._get_message(record),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            if place := _describe_place(record.exc_info[2]):
                line["place"] = place
            if self._debug:
                line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False)

    def _get_message(self, record: logging.LogRecord) -> str:
        is_ours = record.name.partition(".")[0] == "strokeseg"
        is_known = record.name.partition(".")[0] == "uvicorn" and record.levelno < logging.ERROR
        if self._debug or is_ours or is_known:
            return record.getMessage()
        return f"a message of {record.name.partition('.')[0]}, {record.module}:{record.lineno}"


def configure(names: Sequence[str] = OWN_LOGS, debug: bool = False) -> logging.Handler:
    """Write some logs to stderr as JSON, and nothing else of them anywhere.

    Parameters
    ----------
    names : sequence of str
        Names of the logs.
    debug : bool
        As for :class:`JsonFormatter`.

    Returns
    -------
    logging.Handler
        What writes them.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(debug))
    for name in names:
        log = logging.getLogger(name)
        log.setLevel(logging.INFO)
        log.propagate = False
        log.handlers = [handler]
    return handler


def configure_server(debug: bool) -> None:
    """Write the log of `strokeseg serve` and of the packages that it uses, and faults of its threads."""
    handler = configure(debug=debug)
    if not debug:
        handler.addFilter(_is_news)
        threading.excepthook = _log_thread_fault
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for noisy in ("httpx", "alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for the web server's line of a fault: the application has logged it with its code and route."""
    return not (record.name == "uvicorn.error" and str(record.msg).startswith("Exception in ASGI application"))


def _log_thread_fault(fault: Any) -> None:
    if fault.exc_value is not None:
        logging.getLogger("strokeseg.serve").error("%s", describe_fault(fault.exc_value))


def _describe_place(trace: TracebackType | None) -> str | None:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
