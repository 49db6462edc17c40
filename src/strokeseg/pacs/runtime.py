"""A node with the jobs of the web application, its log and its metrics, in one process."""

from __future__ import annotations

import json
import logging
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from strokeseg.errors import UsageError
from strokeseg.pacs import database as tables
from strokeseg.pacs.node import Node
from strokeseg.pacs.settings import NodeSettings
from strokeseg.pacs.web_jobs import WebJobQueue
from strokeseg.web import settings as serve_settings
from strokeseg.web.jobs import JobQueue
from strokeseg.web.storage import Storage


@dataclass
class RunningNode:
    """A node at work, and the jobs that it shares with the web application."""

    node: Node
    jobs: JobQueue

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.node.port

    def wait(self) -> None:
        """Return when it is ended."""
        self.node.wait()

    def request_stop(self) -> None:
        """Have :meth:`wait` return."""
        self.node.request_stop()

    def stop(self) -> None:
        """Stop; what is in the middle goes on at the next start."""
        self.node.stop()
        self.jobs.close()


def start_node(settings: NodeSettings, database: str, storage: str, workers: int) -> RunningNode:
    """Start everything.

    Parameters
    ----------
    database, storage, workers : str
        As of `strokeseg serve`.

    Raises
    ------
    UsageError
        `usage`, if a port cannot be listened on, or storage cannot be opened.
    NotWritable
        `not-writable`, if the database cannot be opened.
    """
    configure_json_log()
    url = serve_settings.parse_database_url(database)
    engine = tables.open_database(url)
    store = Storage(storage)
    jobs = JobQueue(serve_settings.ServerSettings(database=url, storage=storage, workers=workers), engine, store)
    node = Node(settings, url, WebJobQueue(jobs, store, settings.node.group))
    jobs.start()
    try:
        node.start()
        if settings.node.metrics_port:
            registry = CollectorRegistry()
            registry.register(NodeMetrics(node))
            start_http_server(settings.node.metrics_port, "127.0.0.1", registry)
    except BaseException as error:
        node.stop()
        jobs.close()
        if isinstance(error, OSError):
            raise UsageError(f"metrics_port: cannot be listened on ({error.strerror})", "Choose another.") from None
        raise
    return RunningNode(node, jobs)


class NodeMetrics(Collector):
    """The node's metrics for Prometheus."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> list[Metric]:
        """Return them as they are now."""
        events = CounterMetricFamily("strokeseg_node_events", "What happened on the port", labels=["kind", "outcome"])
        for (kind, outcome), count in sorted(self._node.event_counts.items()):
            events.add_metric([kind, outcome], count)
        found: list[Metric] = [events]
        for name, states in self._node.count_states().items():
            gauge = GaugeMetricFamily(f"strokeseg_node_{name}", f"Rows of {name} by state", labels=["state"])
            for state, count in sorted(states.items()):
                gauge.add_metric([state], count)
            found.append(gauge)
        return found


def configure_json_log() -> None:
    """Write the node's and the jobs' log to stderr, one JSON object a line; none of their words is a patient's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    for name in ("strokeseg.node", "strokeseg.web"):
        log = logging.getLogger(name)
        log.setLevel(logging.INFO)
        log.propagate = False
        log.handlers = [handler]
    # The network library's threads end in tracebacks of their own when a peer sends rubbish.
    threading.excepthook = lambda fault: logging.getLogger("strokeseg.node").warning(
        "a connection ended by %s", fault.exc_type.__name__
    )
    # pynetdicom's own lines quote what a peer sends.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "log": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                line["place"] = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        return json.dumps(line, ensure_ascii=False)
