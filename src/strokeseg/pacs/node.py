"""The node: receives series, has them segmented, and delivers the results; its state is kept in the database."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from io import BytesIO
from typing import Any

from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from sqlalchemy import ColumnElement, RowMapping, func, select
from sqlalchemy.exc import SQLAlchemyError

from strokeseg.errors import NotDelivered, StrokesegError, TooLarge
from strokeseg.pacs import dicomweb, notices, outbox, priors, scu
from strokeseg.pacs.completion import OpenAssociations
from strokeseg.pacs.database import open_database, outbox_table, series_table
from strokeseg.pacs.instance_files import parse_instance
from strokeseg.pacs.job_queue import JobQueue
from strokeseg.pacs.scp import StorageScp
from strokeseg.pacs.series_processing import SeriesProcessor, read_headers
from strokeseg.pacs.settings import DicomwebServer, NodeSettings, NoticeTarget, Peer
from strokeseg.pacs.spool import Spool

log = logging.getLogger("strokeseg.node")

_PROCESS_INTERVAL_S = 0.5
_PRIOR_RETRY_S = 10.0
_CLEANUP_INTERVAL_S = 3600.0
_TRANSACTION_UID_PREFIX = "2.25."  # followed by the outbox row's id as a number, and the number of tries


class Node:
    """A running node.

    Parameters
    ----------
    settings : NodeSettings
        Validated settings.
    database : str
        URL of the database, which is also that of the jobs.
    jobs : JobQueue
        Jobs of the web application.
    """

    def __init__(self, settings: NodeSettings, database: str, jobs: JobQueue) -> None:
        self.settings = settings
        self.event_counts: Counter[tuple[str, str]] = Counter()
        engine = open_database(database)
        local = settings.node
        self.spool = Spool(local.folder, engine, local.least_free_mb)
        self.associations = OpenAssociations()
        self.receiver = StorageScp(
            settings, self.spool, self.associations, self._count_event, on_commitment_report=self._on_commitment_report
        )
        self.processor = SeriesProcessor(settings, self.spool, self.associations, jobs)
        self.port = 0
        self._jobs = jobs
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Listen on the port and start the background threads.

        Raises
        ------
        UsageError
            `usage`, if the port cannot be opened.
        """
        self.port = self.receiver.start()
        loops: list[tuple[str, Callable[[], None], float]] = [
            ("work", self.processor.process_due, _PROCESS_INTERVAL_S),
            ("clean", self.processor.delete_expired, _CLEANUP_INTERVAL_S),
            *self._make_delivery_loops(),
        ]
        if any(server.poll for server in self.settings.web):
            loops.append(("poll", self._poll_servers, self.settings.node.poll_s))
        for name, step, pause_s in loops:
            thread = threading.Thread(target=self._loop, args=(name, step, pause_s), name=f"node-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        log.info("listening as %s on port %d", self.settings.node.ae_title, self.port)

    def request_stop(self) -> None:
        """Make :meth:`wait` return."""
        self._stopping.set()

    def stop(self) -> None:
        """End open associations and the current steps."""
        self._stopping.set()
        self.receiver.stop()
        end = time.monotonic() + self.settings.node.network_timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self.spool.engine.dispose()

    def wait(self) -> None:
        """Wait until a stop is requested."""
        self._stopping.wait()

    def _loop(self, name: str, step: Callable[[], None], pause_s: float) -> None:
        while not self._stopping.is_set():
            try:
                step()
            except SQLAlchemyError as error:
                log.warning("%s: the database does not answer (%s); retry in %g s", name, type(error).__name__, pause_s)
            except Exception:  # the node continues after any error of a step
                log.exception("%s: internal error in StrokeSeg; retry in %g s", name, pause_s)
            self._stopping.wait(pause_s)

    def _count_event(self, kind: str, outcome: str) -> None:
        with self._lock:
            self.event_counts[kind, outcome] += 1

    # Outgoing

    def _make_delivery_loops(self) -> Iterator[tuple[str, Callable[[], None], float]]:
        """Make one loop per target and one for the rest, so that an unreachable target does not delay others.

        Yields
        ------
        tuple of (str, callable, float)
            Name, step and interval in seconds of a loop.
        """
        settings = self.settings
        targets: list[Peer | DicomwebServer | NoticeTarget] = [*settings.peer, *settings.web, *settings.notice]
        names = sorted({target.name for target in targets})
        is_delivery = outbox_table.c.kind != "prior"
        for name in names:
            condition = is_delivery & (outbox_table.c.target == name)
            yield f"to-{name}", partial(self._deliver_due, condition), _PROCESS_INTERVAL_S
        other = ~is_delivery | outbox_table.c.target.not_in(names)
        yield "to-others", partial(self._deliver_due, other), _PROCESS_INTERVAL_S

    def _deliver_due(self, condition: ColumnElement[bool]) -> None:
        delivery_functions = {
            "send": self._deliver_objects,
            "tell": self._deliver_notice,
            "commitment": self._deliver_commitment,
            "prior": self._fetch_and_compare_prior,
        }
        outbox.deliver_due(self.spool.engine, delivery_functions, self.settings.node.keep_days, condition)

    def _deliver_objects(self, row: RowMapping, content: dict[str, Any]) -> dict[str, Any]:
        files = self._jobs.read_objects(content["study"], content["what"])
        targets: list[Peer | DicomwebServer] = [*self.settings.peer, *self.settings.web]
        target = next((target for target in targets if target.name == row["target"]), None)
        if not files:  # for example, there is no segmentation without hemorrhage
            return {**content, "objects": 0}
        if isinstance(target, DicomwebServer):
            dicomweb.store_instances(dicomweb.open_client(target), target, files)
        elif isinstance(target, Peer):
            scu.c_store(self.settings.node, target, files)
            if target.commit:
                transaction = f"{_TRANSACTION_UID_PREFIX}{int(row['id'], 16)}.{row['tries']}"
                references = [_read_sop_reference(file) for file in files]
                scu.request_commitment(self.settings.node, target, transaction, references)
        else:
            raise _make_unknown_target_error(row)
        return content

    def _deliver_notice(self, row: RowMapping, content: dict[str, Any]) -> dict[str, Any]:
        target = next((target for target in self.settings.notice if target.name == row["target"]), None)
        if target is None:
            raise _make_unknown_target_error(row)
        notices.send_notice(target, self.processor.build_notice(row, content["study"]))
        return content

    def _deliver_commitment(self, row: RowMapping, content: dict[str, Any]) -> dict[str, Any]:
        peer = next((peer for peer in self.settings.peer if peer.name == row["target"]), None)
        if peer is None:
            raise _make_unknown_target_error(row)
        stored: list[tuple[str, str]] = []
        missing: list[tuple[str, str]] = []
        for sop_class, sop_uid in content["instances"]:
            is_stored = self.spool.has_intact_instance(str(sop_uid), str(sop_class))
            (stored if is_stored else missing).append((str(sop_class), str(sop_uid)))
        scu.report_commitment(self.settings.node, peer, content["transaction"], stored, missing)
        return content

    def _fetch_and_compare_prior(self, row: RowMapping, content: dict[str, Any]) -> dict[str, Any]:
        """Fetch the prior, wait until it is segmented, and have both studies compared."""
        if "prior" not in content:
            header = next(read_headers(self.spool.list_files(row["series_uid"])), None)
            being_fetched = self.receiver.studies_being_fetched
            prior = header and priors.fetch_prior(self.settings, header, being_fetched, self.spool)
            if not prior:
                return {**content, "prior": ""}
            return {**content, "prior": prior, outbox.RETRY_AFTER_S: self.settings.node.settle_s + 1}
        query = select(series_table.c.state, series_table.c.job).where(series_table.c.series_uid == content["prior"])
        with self.spool.engine.connect() as connection:
            series = connection.execute(query).one_or_none()
        if series is None or series.state in ("failed", "ignored"):
            return {**content, "compared": "no: the prior was not segmented"}
        if series.state != "done":
            return {**content, outbox.RETRY_AFTER_S: _PRIOR_RETRY_S}
        self._jobs.compare(series.job, content["study"])
        return {**content, "compared": "yes"}

    def _on_commitment_report(self, transaction: str, stored: list[str], missing: list[str]) -> None:
        """Handle an archive's answer to a commitment request: missing objects are sent again."""
        self._count_event("commitment", "kept" if not missing else "missing")
        if missing:
            log.warning("an archive lacks %d of %d objects; they are sent again", len(missing), len(missing + stored))
            number = transaction.removeprefix(_TRANSACTION_UID_PREFIX).partition(".")[0]
            if number.isdecimal():
                outbox.requeue_sent(self.spool.engine, f"{int(number):032x}", self.settings.node.keep_days)

    # Polling

    def _poll_servers(self) -> None:
        for server in self.settings.web:
            if server.poll:
                try:
                    self._poll_server(server)
                except StrokesegError as error:
                    log.warning("poll of %s: %s", server.name, error)
                except SQLAlchemyError:
                    raise
                except Exception:  # an unexpected answer of one server must not stop the polling of others
                    log.exception("poll of %s: internal error in StrokeSeg", server.name)

    def _poll_server(self, server: DicomwebServer) -> None:
        client = dicomweb.open_client(server)
        since = date.today() - timedelta(days=1)
        for row in dicomweb.search_series(client, server, {"Modality": "CT", "StudyDate": f"{since:%Y%m%d}-"}):
            series_uid, study_uid = str(row.SeriesInstanceUID), str(row.StudyInstanceUID)
            remote_count = int(row.get("NumberOfSeriesRelatedInstances") or 0)
            # A series whose server states no number is fetched once.
            if self.spool.count_instances(series_uid) >= (remote_count or 1):
                continue
            try:
                self._fetch_series(client, server, study_uid, series_uid)
            except TooLarge as error:  # the server's other series are fetched nevertheless
                log.warning("poll of %s: series %s: %s", server.name, series_uid, error.message)

    def _fetch_series(self, client: DICOMwebClient, server: DicomwebServer, study_uid: str, series_uid: str) -> None:
        max_bytes = self.settings.node.most_object_bytes
        for file in dicomweb.retrieve_series(client, server, study_uid, series_uid, max_bytes):
            self.spool.store(parse_instance(file, server.name, max_bytes))

    def count_states(self) -> dict[str, dict[str, int]]:
        """Count series and deliveries by their state, for the metrics."""
        counts: dict[str, dict[str, int]] = {}
        with self.spool.engine.connect() as connection:
            for name, table in (("series", series_table), ("outbox", outbox_table)):
                rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
                counts[name] = {str(state): int(count) for state, count in rows}
        return counts


def _read_sop_reference(file: bytes) -> tuple[str, str]:
    header = dcmread(BytesIO(file), specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return str(header.SOPClassUID), str(header.SOPInstanceUID)


def _make_unknown_target_error(row: RowMapping) -> NotDelivered:
    return NotDelivered(
        f"{row['target']}: is no longer in the settings", "Restore it in the settings, or remove the delivery."
    )
