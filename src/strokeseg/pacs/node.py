"""The node: receives, has series segmented, and delivers; everything that it must not forget lies in the database."""

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

from pydicom import dcmread
from sqlalchemy import ColumnElement, RowMapping, func, select
from sqlalchemy.exc import SQLAlchemyError

from strokeseg.errors import NotDelivered, StrokesegError
from strokeseg.pacs import dicomweb, notices, outbox, priors, scu
from strokeseg.pacs.completion import OpenAssociations
from strokeseg.pacs.database import open_database, series_table
from strokeseg.pacs.database import outbox_table as outbox_table
from strokeseg.pacs.job_queue import JobQueue
from strokeseg.pacs.scp import StorageScp
from strokeseg.pacs.series_processing import SeriesProcessor, read_headers
from strokeseg.pacs.settings import DicomwebServer, NodeSettings, NoticeTarget, Peer
from strokeseg.pacs.spool import ReceivedInstance, Spool

log = logging.getLogger("strokeseg.node")

_PROCESS_INTERVAL_S = 0.5
_PRIOR_RETRY_S = 10.0
_CLEANUP_INTERVAL_S = 3600.0
_TRANSACTION_UID_PREFIX = "2.25."  # and the outbox row's id as a number, and how often it was tried


class Node:
    """A running node.

    Parameters
    ----------
    settings : NodeSettings
        Checked.
    database : str
        URL of the database, the same as of the jobs.
    jobs : JobQueue
        Of the web application.
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
        """Listen and begin to work.

        Raises
        ------
        UsageError
            `usage`, if the port cannot be listened on.
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
        """Have :meth:`wait` return."""
        self._stopping.set()

    def stop(self) -> None:
        """End open associations, and what is being done just now."""
        self._stopping.set()
        self.receiver.stop()
        end = time.monotonic() + self.settings.node.network_timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self.spool.engine.dispose()

    def wait(self) -> None:
        """Return when the node is stopped."""
        self._stopping.wait()

    def _loop(self, name: str, step: Any, pause_s: float) -> None:
        while not self._stopping.is_set():
            try:
                step()
            except SQLAlchemyError as error:
                log.warning("%s: the database does not answer (%s); again in %g s", name, type(error).__name__, pause_s)
            except Exception:  # the node goes on, whatever one step met
                log.exception("%s: a fault of ours; again in %g s", name, pause_s)
            self._stopping.wait(pause_s)

    def _count_event(self, kind: str, outcome: str) -> None:
        with self._lock:
            self.event_counts[kind, outcome] += 1

    # What goes out

    def _make_delivery_loops(self) -> Iterator[tuple[str, Callable[[], None], float]]:
        """Return a loop for each target, and one for the rest: who does not answer holds up nobody else."""
        told = self.settings
        targets: list[Peer | DicomwebServer | NoticeTarget] = [*told.peer, *told.web, *told.notice]
        names = sorted({one.name for one in targets})
        own = outbox_table.c.kind != "prior"
        for name in names:
            yield f"to-{name}", partial(self._deliver_due, own & (outbox_table.c.target == name)), _PROCESS_INTERVAL_S
        yield "to-others", partial(self._deliver_due, ~own | outbox_table.c.target.not_in(names)), _PROCESS_INTERVAL_S

    def _deliver_due(self, among: ColumnElement[bool]) -> None:
        ways = {
            "send": self._deliver_objects,
            "tell": self._deliver_notice,
            "commitment": self._deliver_commitment,
            "prior": self._fetch_and_compare_prior,
        }
        outbox.deliver_due(self.spool.engine, ways, self.settings.node.keep_days, among)

    def _deliver_objects(self, row: RowMapping, content: dict[str, Any]) -> dict[str, Any]:
        files = self._jobs.read_objects(content["study"], content["what"])
        targets: list[Peer | DicomwebServer] = [*self.settings.peer, *self.settings.web]
        target = next((one for one in targets if one.name == row["target"]), None)
        if not files:  # of a head without blood there is no segmentation, for one
            return {**content, "objects": 0}
        if isinstance(target, DicomwebServer):
            dicomweb.store_instances(dicomweb.open_client(target), target, files)
        elif isinstance(target, Peer):
            scu.c_store(self.settings.node, target, files)
            if target.commit:
                transaction = f"{_TRANSACTION_UID_PREFIX}{int(row['id'], 16)}.{row['tries']}"
                scu.request_commitment(
                    self.settings.node, target, transaction, [_read_sop_reference(file) for file in files]
                )
        else:
            raise NotDelivered(f"{row['target']}: is no longer in the settings", "Put it back, or remove the delivery.")
        return content

    def _deliver_notice(self, row: RowMapping, content: dict[str, Any]) -> dict[str, Any]:
        target = next((one for one in self.settings.notice if one.name == row["target"]), None)
        if target is None:
            raise NotDelivered(f"{row['target']}: is no longer in the settings", "Put it back, or remove the delivery.")
        notices.send_notice(target, self.processor.build_notice(row, content["study"]))
        return content

    def _deliver_commitment(self, row: RowMapping, content: dict[str, Any]) -> dict[str, Any]:
        peer = next((one for one in self.settings.peer if one.name == row["target"]), None)
        if peer is None:
            raise NotDelivered(f"{row['target']}: is no longer in the settings", "Put it back, or remove the delivery.")
        pairs = [(str(sop_class), str(uid)) for sop_class, uid in content["instances"]]
        held = [self.spool.has_intact_instance(sop_uid, sop_class) for sop_class, sop_uid in pairs]
        have = [pair for pair, here in zip(pairs, held, strict=True) if here]
        miss = [pair for pair, here in zip(pairs, held, strict=True) if not here]
        scu.report_commitment(self.settings.node, peer, content["transaction"], have, miss)
        return content

    def _fetch_and_compare_prior(self, row: RowMapping, content: dict[str, Any]) -> dict[str, Any]:
        """Fetch the prior, wait until it is segmented, and have both compared."""
        if "prior" not in content:
            first = next(read_headers(self.spool.list_files(row["series_uid"])), None)
            found = first and priors.fetch_prior(self.settings, first, self.receiver.studies_being_fetched, self.spool)
            if not found:
                return {**content, "prior": ""}
            return {**content, "prior": found, outbox.RETRY_AFTER_S: self.settings.node.settle_s + 1}
        with self.spool.engine.connect() as connection:
            query = select(series_table.c.state, series_table.c.job).where(
                series_table.c.series_uid == content["prior"]
            )
            state = connection.execute(query).one_or_none()
        if state is None or state.state in ("failed", "ignored"):
            return {**content, "compared": "no: the prior was not segmented"}
        if state.state != "done":
            return {**content, outbox.RETRY_AFTER_S: _PRIOR_RETRY_S}
        self._jobs.compare(state.job, content["study"])
        return {**content, "compared": "yes"}

    def _on_commitment_report(self, transaction: str, have: list[str], miss: list[str]) -> None:
        """Note an archive's answer to our request for commitment: what it does not have is sent again."""
        self._count_event("commitment", "kept" if not miss else "missing")
        if miss:
            log.warning("an archive does not keep %d of %d objects; they are sent again", len(miss), len(miss + have))
            number = transaction.removeprefix(_TRANSACTION_UID_PREFIX).partition(".")[0]
            if number.isdecimal():
                outbox.requeue_sent(self.spool.engine, f"{int(number):032x}", self.settings.node.keep_days)

    # What comes without being sent

    def _poll_servers(self) -> None:
        for server in self.settings.web:
            if server.poll:
                try:
                    self._poll_server(server)
                except StrokesegError as error:
                    log.warning("poll of %s: %s", server.name, error)
                except SQLAlchemyError:
                    raise
                except Exception:  # what one server answers must not keep the others from being asked
                    log.exception("poll of %s: a fault of ours", server.name)

    def _poll_server(self, server: DicomwebServer) -> None:
        client = dicomweb.open_client(server)
        since = date.today() - timedelta(days=1)
        for row in dicomweb.search_series(client, server, {"Modality": "CT", "StudyDate": f"{since:%Y%m%d}-"}):
            series_uid, study_uid = str(row.SeriesInstanceUID), str(row.StudyInstanceUID)
            there = int(row.get("NumberOfSeriesRelatedInstances") or 0)
            here = self.spool.count_instances(series_uid)
            if here >= (there or 1):  # a server that does not say how many there are is asked once
                continue
            for file in dicomweb.retrieve_series(client, server, study_uid, series_uid):
                self.spool.store(ReceivedInstance(file, dcmread(BytesIO(file), stop_before_pixels=True), server.name))

    def count_states(self) -> dict[str, dict[str, int]]:
        """Count series and deliveries by their state, for the metrics."""
        found: dict[str, dict[str, int]] = {}
        with self.spool.engine.connect() as connection:
            for name, table in (("series", series_table), ("outbox", outbox_table)):
                rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
                found[name] = {str(state): int(count) for state, count in rows}
        return found


def _read_sop_reference(file: bytes) -> tuple[str, str]:
    header = dcmread(BytesIO(file), specific_tags=["SOPClassUID", "SOPInstanceUID"])
    return str(header.SOPClassUID), str(header.SOPInstanceUID)
