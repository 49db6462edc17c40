"""Durable jobs: DBOS workflows whose every step is checkpointed in the database, so that no process's end loses one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID, StepOptions
from dbos import error as dbos_error
from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError

from strokeseg.errors import InputError, OutputError, StrokesegError
from strokeseg.web.comparison_store import ComparisonStore
from strokeseg.web.database import comparisons, studies, versions
from strokeseg.web.leases import Leases
from strokeseg.web.schemas import TERMINAL_STATUSES
from strokeseg.web.settings import ServerSettings
from strokeseg.web.steps import StudySteps
from strokeseg.web.storage import Storage
from strokeseg.web.study_store import StudyStore
from strokeseg.web.worker_pool import StepCancelled, WorkerDied, WorkerPool

log = logging.getLogger("strokeseg.web")
T = TypeVar("T")

VERSION = "1"
"""Of the workflows. A study that was queued under another one waits for a worker that knows it, so it changes only when
the steps do, and not with every release."""
QUEUE = "studies"
_URGENT, _EDIT, _COMPARE, _NORMAL = 1, 2, 5, 10
_RETRYABLE = (OSError, OutputError, WorkerDied, DBAPIError)
_MAX_RECOVERIES = 100  # of one workflow, after ends of its worker


class JobQueue:
    """The jobs of one process: it hands them out, and where it has workers does them.

    Parameters
    ----------
    settings, engine, storage : ServerSettings
        Of the application; ``settings.workers`` is how many studies at once, 0 for none.
    """

    def __init__(self, settings: ServerSettings, engine: Engine, storage: Storage) -> None:
        self._settings, self._engine, self._storage = settings, engine, storage
        self.studies, self.comparisons = StudyStore(engine), ComparisonStore(engine)
        self.id = uuid4().hex
        self._pool = WorkerPool(settings.workers, settings.memory_bytes)
        self._steps = StudySteps(settings, self.studies, self.comparisons, storage, self._pool)
        self._leases = Leases(engine, self.id, settings.lease_s)
        self._ending = threading.Event()
        self._lease_thread = threading.Thread(target=self._keep_leases, name="strokeseg-heart", daemon=True)
        self._study: Callable[[str], None]
        self._edit: Callable[[str, int], None]
        self._comparison: Callable[[str], None]

    def start(self) -> None:
        """Open the queue, and begin to work on what is in it."""
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        DBOS.destroy(destroy_registry=True)
        config: DBOSConfig = {
            "name": "strokeseg",
            "system_database_url": self._settings.database,
            "executor_id": self.id,
            "application_version": VERSION,
            "log_level": "CRITICAL",  # it would log the words of errors, which may name a patient's files
        }
        DBOS(config=config)
        logging.getLogger("dbos").propagate = False
        self._register_workflows()
        self._leases.renew()
        if not self._settings.workers:
            DBOS.listen_queues([])
        DBOS.launch()
        if self._settings.workers:
            DBOS.register_queue(
                QUEUE,
                worker_concurrency=self._settings.workers,
                polling_interval_sec=0.2,
                on_conflict="always_update",
            )
        self._lease_thread.start()

    def _register_workflows(self) -> None:
        """Tell DBOS the workflows; it takes functions alone, and finds one again by its name."""

        @DBOS.workflow(name="study", max_recovery_attempts=_MAX_RECOVERIES)
        def study(identity: str) -> None:
            self._run_study(identity)

        @DBOS.workflow(name="edit", max_recovery_attempts=_MAX_RECOVERIES)
        def edit(study: str, version: int) -> None:
            self._run_edit(study, version)

        @DBOS.workflow(name="compare", max_recovery_attempts=_MAX_RECOVERIES)
        def compare(comparison: str) -> None:
            self._run_comparison(comparison)

        self._study, self._edit, self._comparison = study, edit, compare

    def close(self) -> None:
        """Stop; what is in the middle is taken over by another worker, or by the next start."""
        self._ending.set()
        self._pool.close()
        self._lease_thread.join(10)
        DBOS.destroy(destroy_registry=True)
        self._leases.release()

    def submit(self, study: str, priority: str) -> None:
        """Queue a study; doing it twice is doing it once."""
        self._enqueue(study, _URGENT if priority == "urgent" else _NORMAL, self._study, study)

    def submit_edit(self, study: str, version: int) -> None:
        """Queue what a person drew."""
        self._enqueue(f"{study}-{version}", _EDIT, self._edit, study, version)

    def submit_comparison(self, comparison: str) -> None:
        """Queue a comparison."""
        self._enqueue(comparison, _COMPARE, self._comparison, comparison)

    def cancel(self, study: str) -> None:
        """Stop a study or its edits, also in the middle of a step."""
        for edit in self.studies.cancel(study):
            DBOS.cancel_workflow(f"{study}-{edit}")
        if self.studies.get_row(study).status == "cancelled":
            DBOS.cancel_workflow(study)

    def delete(self, study: str) -> None:
        """Remove a study: its rows, its jobs and its files, and the comparisons that it is part of."""
        found = self.comparisons.list_for_study(study)
        with self._engine.connect() as connection:
            edits = connection.execute(select(versions.c.version).where(versions.c.study == study)).scalars().all()
        self.studies.mark_deleted(study)
        jobs = [study, *(f"{study}-{edit}" for edit in edits if edit), *found]
        DBOS.cancel_workflows(jobs)
        DBOS.delete_workflows(jobs)
        self.comparisons.delete(found)
        self._storage.remove(f"studies/{study}")
        for name in self._storage.list_names("comparisons") if found else []:
            if name.split("-")[0] in found:
                self._storage.remove(f"comparisons/{name}")

    def count_queued(self) -> int:
        """Count what is queued and nobody works on yet."""
        with self._engine.connect() as connection:
            queued = connection.execute(select(studies.c.id).where(studies.c.status == "queued", ~studies.c.deleted))
            return len(queued.all())

    def _run_study(self, study: str) -> None:
        def steps() -> None:
            self._run_step("read", self._steps.read, study)
            self._run_step("segment", self._steps.segment, study)
            self._measure_and_deliver(study, 0)

        self._record_errors(steps, "end", self._steps.record_failure, study, 0)

    def _run_edit(self, study: str, version: int) -> None:
        self._record_errors(
            lambda: self._measure_and_deliver(study, version), "end", self._steps.record_failure, study, version
        )

    def _run_comparison(self, comparison: str) -> None:
        self._record_errors(
            lambda: self._run_step("compare", self._steps.compare, comparison),
            "end",
            self._steps.record_comparison_failure,
            comparison,
        )

    def _measure_and_deliver(self, study: str, version: int) -> None:
        found = self._run_step("measure", self._steps.measure, study, version)
        folder, size = self._run_step("write", self._steps.write, study, version)
        self._run_step("deliver", self._steps.deliver, study, version, found, folder, size)

    def _record_errors(self, steps: Callable[[], None], name: str, end: Callable[..., None], *which: Any) -> None:
        """Do steps; an error that stays is told, and is no error of the workflow."""
        try:
            steps()
        except StepCancelled:
            return
        except Exception as error:
            last = getattr(error, "errors", None)  # of the tries of a step that was tried again
            told = last[-1] if last else error
            if not isinstance(told, InputError):
                log.warning(
                    "job %s: %s", which[0], told.code if isinstance(told, StrokesegError) else type(told).__name__
                )
            self._run_step(name, end, *which, told)

    def _run_step(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Do a step once, or give what it gave when it was done before; what may pass is tried again, ever later."""
        options: StepOptions = {
            "name": name,
            "retries_allowed": True,
            "max_attempts": 4,
            "interval_seconds": 1.0,
            "backoff_rate": 3.0,
            "should_retry": lambda error: isinstance(error, _RETRYABLE) and not self._ending.is_set(),
        }
        return DBOS.run_step(options, function, *arguments)

    def _enqueue(self, identity: str, priority: int, job: Callable[..., None], *arguments: Any) -> None:
        with SetWorkflowID(identity), SetEnqueueOptions(priority=priority):
            DBOS.enqueue_workflow(QUEUE, job, *arguments)

    def _keep_leases(self) -> None:
        """Give signs of life, take over from the dead, and queue again what was stored but not queued."""
        beats = 0
        while not self._ending.wait(self._settings.lease_s / 3):
            try:
                self._leases.renew()
                self._leases.recover_expired(lambda dead: DBOS._recover_pending_workflows([dead]))
                if beats % 4 == 0:
                    self._recover_orphans()
                    self.enqueue_missing()
            except (DBAPIError, dbos_error.DBOSException, OSError) as error:
                log.warning("the database or storage does not answer: %s", type(error).__name__)
            beats += 1

    def _recover_orphans(self) -> None:
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        for dead in self._leases.find_orphans({str(job.executor_id) for job in pending if job.executor_id}):
            DBOS._recover_pending_workflows([dead])

    def enqueue_missing(self) -> None:
        """Queue what has a row but no job, as after a kill between the two; tell what DBOS gave up."""
        with self._engine.connect() as connection:
            open_ = select(studies.c.id, studies.c.priority, studies.c.version).where(
                studies.c.status.not_in(TERMINAL_STATUSES), ~studies.c.deleted
            )
            rows = connection.execute(open_).all()
            edits = connection.execute(select(versions).where(versions.c.folder.is_(None))).all()
            pairs = connection.execute(
                select(comparisons.c.id).where(comparisons.c.status.in_(("queued", "comparing")))
            ).scalars()
            compared = list(pairs)
        end = self._steps.record_failure
        for row in rows:
            if row.version < 0:
                self._enqueue_or_fail(row.id, partial(self.submit, row.id, row.priority), end, row.id, 0)
        for edit in edits:
            which = (edit.study, edit.version)
            self._enqueue_or_fail(f"{edit.study}-{edit.version}", partial(self.submit_edit, *which), end, *which)
        for one in compared:
            self._enqueue_or_fail(one, partial(self.submit_comparison, one), self._steps.record_comparison_failure, one)

    def _enqueue_or_fail(self, job: str, submit: Callable[[], None], end: Callable[..., None], *which: Any) -> None:
        state = DBOS.get_workflow_status(job)
        if state is None:
            submit()
        elif state.status in ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"):
            end(*which, StrokesegError("this job failed again and again", "Try again; the server's log says more."))
