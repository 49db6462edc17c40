"""Run a node with the jobs of the web application, its log and its metrics in one process."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from strokeseg.errors import UsageError
from strokeseg.pacs.database import open_database
from strokeseg.pacs.node import Node
from strokeseg.pacs.settings import NodeSettings
from strokeseg.pacs.web_jobs import WebJobQueue
from strokeseg.web import json_log
from strokeseg.web.database import check_storage
from strokeseg.web.jobs import JobQueue
from strokeseg.web.settings import ServerSettings, parse_database_url
from strokeseg.web.storage import Storage


@dataclass
class RunningNode:
    """A running node and the jobs that it shares with the web application."""

    node: Node
    jobs: JobQueue

    @property
    def port(self) -> int:
        """Port on which the node listens."""
        return self.node.port

    def wait(self) -> None:
        """Wait until a stop is requested."""
        self.node.wait()

    def request_stop(self) -> None:
        """Make :meth:`wait` return."""
        self.node.request_stop()

    def stop(self) -> None:
        """Stop the node and the jobs; unfinished work continues at the next start."""
        try:
            self.node.stop()
        finally:
            self.jobs.close()


def start_node(settings: NodeSettings, database: str, storage: str, workers: int) -> RunningNode:
    """Start a node with its jobs, log and metrics.

    Parameters
    ----------
    settings : NodeSettings
        Validated settings.
    database : str
        URL of the database, as of `strokeseg serve`.
    storage : str
        Folder or URL of the storage, as of `strokeseg serve`.
    workers : int
        Number of worker processes, as of `strokeseg serve`.

    Returns
    -------
    RunningNode
        The node.

    Raises
    ------
    UsageError
        `usage`, if a port or the storage cannot be opened.
    NotWritable
        `not-writable`, if the database cannot be opened.
    UnusableDatabase
        `database`, if it is damaged, or has no study beside a storage with studies.
    """
    configure_json_log()
    url = parse_database_url(database)
    engine = open_database(url)
    store = Storage(storage)
    check_storage(engine, store)
    jobs = JobQueue(ServerSettings(database=url, storage=storage, workers=workers), engine, store)
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
            raise UsageError(
                f"metrics_port: cannot be opened for listening ({error.strerror})", "Choose another port."
            ) from None
        raise
    return RunningNode(node, jobs)


class NodeMetrics(Collector):
    """The node's metrics for Prometheus."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> list[Metric]:
        """Return the current metrics."""
        events = CounterMetricFamily("strokeseg_node_events", "What happened on the port", labels=["kind", "outcome"])
        for (kind, outcome), count in sorted(self._node.event_counts.items()):
            events.add_metric([kind, outcome], count)
        metrics: list[Metric] = [events]
        for name, states in self._node.count_states().items():
            gauge = GaugeMetricFamily(f"strokeseg_node_{name}", f"Rows of {name} by state", labels=["state"])
            for state, count in sorted(states.items()):
                gauge.add_metric([state], count)
            metrics.append(gauge)
        return metrics


def configure_json_log() -> None:
    """Write the log of node and jobs to stderr, one JSON object per line, without patient data."""
    json_log.configure()
    # Otherwise a thread of the network library prints a traceback when a peer sends invalid data.
    threading.excepthook = lambda fault: logging.getLogger("strokeseg.node").warning(
        "a connection ended with %s", fault.exc_type.__name__
    )
    # pynetdicom's log lines quote data from peers.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
