"""Durable jobs: DBOS workflows with a checkpoint in the database after each step, so that no crash loses a study.

Names that DBOS stores (workflows, steps, queue, application and its version) must not change; docs/serve.md explains
what happens to a study.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from dbos import DBOS, DBOSConfig, SetEnqueueOptions, SetWorkflowID, StepOptions
from dbos import error as dbos_error
from sqlalchemy import Engine, Select, select
from sqlalchemy.exc import DBAPIError

from strokeseg.errors import InputError, NotFound, OutputError, StrokesegError
from strokeseg.web.comparison_store import ComparisonStore
from strokeseg.web.database import comparisons, studies, versions
from strokeseg.web.leases import Leases
from strokeseg.web.pickled_names import register_old_names
from strokeseg.web.schemas import RETRYABLE_STATUSES, RUNNING_STATUSES, TERMINAL_STATUSES
from strokeseg.web.settings import ServerSettings
from strokeseg.web.steps import StudySteps
from strokeseg.web.storage import Storage
from strokeseg.web.study_store import StudyStore, list_study_jobs
from strokeseg.web.worker_pool import StepCancelled, WorkerDied, WorkerPool, WorkInterrupted

log = logging.getLogger("strokeseg.serve")
T = TypeVar("T")

VERSION = "1"
"""Version of the workflows. A study that was queued under one version waits for a worker of that version, so it changes
only when the steps change, not with every release."""
QUEUE = "studies"
_URGENT, _EDIT, _COMPARE, _NORMAL = 1, 2, 5, 10  # priorities; lower numbers run first
_RETRYABLE = (OSError, OutputError, WorkerDied, DBAPIError)
_MAX_RECOVERIES = 100  # of one workflow, after its process has ended
_GIVEN_UP = ("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")  # DBOS's states of a workflow that it does not run again
_CLOSE_S = 10.0  # maximum time to wait for the running jobs at a stop


class JobQueue:
    """The job queue of one process: it queues jobs, and works on them if the process has workers.

    Parameters
    ----------
    settings : ServerSettings
        The application's settings; ``settings.workers`` is the number of studies at a time, 0 for none.
    engine : Engine
        The database.
    storage : Storage
        The files.
    """

    def __init__(self, settings: ServerSettings, engine: Engine, storage: Storage) -> None:
        self._settings, self._engine, self._storage = settings, engine, storage
        self.studies, self.comparisons = StudyStore(engine), ComparisonStore(engine)
        self.id = uuid4().hex
        self._pool = WorkerPool(settings.workers, settings.memory_bytes)
        self._steps = StudySteps(settings, self.studies, self.comparisons, storage, self._pool)
        self._leases = Leases(engine, self.id, settings.lease_s)
        self._stopping = threading.Event()
        self._closing = threading.Lock()
        self._idle = threading.Condition()
        self._running = 0  # number of jobs that this process works on
        self._lease_thread = threading.Thread(target=self._keep_leases, name="strokeseg-leases", daemon=True)
        self._study: Callable[[str], None]
        self._edit: Callable[[str, int], None]
        self._comparison: Callable[[str], None]

    def start(self) -> None:
        """Open the queue and start to work on its jobs."""
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        register_old_names()
        DBOS.destroy(destroy_registry=True)
        config: DBOSConfig = {
            "name": "strokeseg",
            "system_database_url": self._settings.database,
            "executor_id": self.id,
            "application_version": VERSION,
            "log_level": "CRITICAL",  # DBOS would log the messages of errors, which may name a patient's files
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
        """Register the workflows with DBOS, which takes only functions and finds them by name."""

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
        """Stop; another process, or the next start, continues the jobs that were running. A second call does nothing.

        The jobs are interrupted, and nothing is recorded of the interruption: their workflows stay pending in the
        database, with the steps that were done. The lease is released last, so that nobody takes them over before.
        """
        with self._closing:
            if self._stopping.is_set():
                return
            self._stopping.set()
        self._pool.close()
        with self._idle:
            self._idle.wait_for(lambda: not self._running, _CLOSE_S)
        if self._lease_thread.is_alive():
            self._lease_thread.join(10)
        DBOS.destroy(destroy_registry=True)
        try:
            self._leases.release()
        except DBAPIError as error:
            log.warning("the database does not respond: %s; the lease expires by itself", type(error).__name__)

    def submit(self, study: str, priority: str) -> None:
        """Queue a study; a second call has no effect."""
        self._submit_job(study, study, priority)

    def retry(self, study: str) -> None:
        """Process a study again that failed or was refused, from its upload.

        Parameters
        ----------
        study : str
            ID of the study.

        Raises
        ------
        NotFound
            `not-found`, if the study does not exist.
        Conflict
            `conflict`, if it has neither failed nor was refused.
        """
        row = self.studies.get_retryable_row(study)
        if not self.studies.restart(study, row.options, RETRYABLE_STATUSES):
            return  # someone else retried it at the same moment
        row = self.studies.get_row(study)
        self._submit_job(list_study_jobs(study, row.options)[-1], study, row.priority)

    def _submit_job(self, job: str, study: str, priority: str) -> None:
        self._enqueue(job, _URGENT if priority == "urgent" else _NORMAL, self._study, study)

    def submit_edit(self, study: str, version: int) -> None:
        """Queue an edit."""
        self._enqueue(f"{study}-{version}", _EDIT, self._edit, study, version)

    def submit_comparison(self, comparison: str) -> None:
        """Queue a comparison."""
        self._enqueue(comparison, _COMPARE, self._comparison, comparison)

    def cancel(self, study: str) -> None:
        """Stop a study or its edits, even in the middle of a step."""
        for edit in self.studies.cancel(study):
            DBOS.cancel_workflow(f"{study}-{edit}")
        row = self.studies.get_row(study)
        if row.status == "cancelled":
            DBOS.cancel_workflow(list_study_jobs(study, row.options)[-1])

    def delete(self, study: str) -> None:
        """Delete a study: its rows, jobs and files, and the comparisons that it is part of."""
        compared = self.comparisons.list_for_study(study)
        with self._engine.connect() as connection:
            edits = connection.execute(select(versions.c.version).where(versions.c.study == study)).scalars().all()
            options = connection.execute(select(studies.c.options).where(studies.c.id == study)).scalar() or "{}"
        self.studies.mark_deleted(study)
        others = [*(f"{study}-{edit}" for edit in edits if edit), *compared]
        jobs = [*list_study_jobs(study, options), *others, *map(_name_second_job, others)]
        DBOS.cancel_workflows(jobs)
        DBOS.delete_workflows(jobs)
        self.comparisons.delete(compared)
        self._storage.remove(f"studies/{study}")
        for name in self._storage.list_names("comparisons") if compared else []:
            if name.split("-")[0] in compared:
                self._storage.remove(f"comparisons/{name}")

    def _run_study(self, study: str) -> None:
        def run_steps() -> None:
            self._run_step("read", self._steps.read, study)
            self._run_step("segment", self._steps.segment, study)
            self._measure_and_deliver(study, 0)

        self._record_errors(run_steps, partial(self._record_study_failure, str(DBOS.workflow_id)), study, 0)

    def _record_study_failure(self, job: str, study: str, version: int, error: Exception) -> None:
        """Record why a study failed, unless it was retried since: a job that is recovered may be an earlier one."""
        try:
            options = self.studies.get_row(study).options
        except NotFound:
            return
        if job == list_study_jobs(study, options)[-1]:
            self._steps.record_failure(study, version, error)

    def _run_edit(self, study: str, version: int) -> None:
        self._record_errors(
            lambda: self._measure_and_deliver(study, version), self._steps.record_failure, study, version
        )

    def _run_comparison(self, comparison: str) -> None:
        self._record_errors(
            lambda: self._run_step("compare", self._steps.compare, comparison),
            self._steps.record_comparison_failure,
            comparison,
        )

    def _measure_and_deliver(self, study: str, version: int) -> None:
        findings = self._run_step("measure", self._steps.measure, study, version)
        folder, size = self._run_step("write", self._steps.write, study, version)
        self._run_step("deliver", self._steps.deliver, study, version, findings, folder, size)

    def _record_errors(self, run_steps: Callable[[], None], record: Callable[..., None], *job: Any) -> None:
        """Run steps and record a permanent error in the step "end"; the workflow itself does not fail."""
        with self._count_job():
            try:
                run_steps()
            except StepCancelled:
                return
            except Exception as error:
                if self._stopping.is_set():  # DBOS has closed its database, for example
                    raise WorkInterrupted from None
                attempts = getattr(error, "errors", None)  # of a step that was tried several times
                reason = attempts[-1] if attempts else error
                if not isinstance(reason, InputError):
                    code = reason.code if isinstance(reason, StrokesegError) else type(reason).__name__
                    log.warning("job %s: %s", job[0], code)
                self._run_step("end", record, *job, reason)

    @contextmanager
    def _count_job(self) -> Iterator[None]:
        """Count a job as running, for :meth:`close`."""
        with self._idle:
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _run_step(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        """Run a step once, or return its stored result; temporary errors are retried after growing intervals."""
        options: StepOptions = {
            "name": name,
            "retries_allowed": True,
            "max_attempts": 4,
            "interval_seconds": 1.0,
            "backoff_rate": 3.0,
            "should_retry": lambda error: isinstance(error, _RETRYABLE),
        }
        return DBOS.run_step(options, self._run_unless_stopping, function, *arguments)

    def _run_unless_stopping(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function; raise WorkInterrupted if this process ends, which may have caused any other error."""
        if self._stopping.is_set():
            raise WorkInterrupted
        try:
            return function(*arguments)
        except Exception:
            if self._stopping.is_set():
                raise WorkInterrupted from None
            raise

    def _enqueue(self, identity: str, priority: int, workflow: Callable[..., None], *arguments: Any) -> None:
        with SetWorkflowID(identity), SetEnqueueOptions(priority=priority):
            DBOS.enqueue_workflow(QUEUE, workflow, *arguments)

    def _keep_leases(self) -> None:
        """Renew the lease, take over jobs of dead processes, and queue studies that were stored but not queued."""
        rounds = 0
        while not self._stopping.wait(self._settings.lease_s / 3):
            try:
                self._leases.renew()
                self._leases.recover_expired(lambda dead: DBOS._recover_pending_workflows([dead]))
                if rounds % 4 == 0:
                    self._recover_orphans()
                    self.enqueue_missing()
            except (DBAPIError, dbos_error.DBOSException, OSError) as error:
                log.warning("the database or storage does not respond: %s", type(error).__name__)
            rounds += 1

    def _recover_orphans(self) -> None:
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        for dead in self._leases.find_orphans({str(job.executor_id) for job in pending if job.executor_id}):
            DBOS._recover_pending_workflows([dead])

    def enqueue_missing(self) -> None:
        """Queue rows without a job, as after a crash between the two, and record jobs that DBOS gave up.

        A job that ended without a result, as at a stop of an earlier version of StrokeSeg, is queued again.
        """
        with self._engine.connect() as connection:
            unfinished = select(studies.c.id, studies.c.priority, studies.c.version, studies.c.options).where(
                studies.c.status.not_in(TERMINAL_STATUSES), ~studies.c.deleted
            )
            rows = connection.execute(unfinished).all()
            edits = connection.execute(select(versions).where(versions.c.folder.is_(None))).all()
            query = select(comparisons.c.id).where(comparisons.c.status.in_(("queued", "comparing")))
            compared = list(connection.execute(query).scalars())
        for row in rows:
            if row.version < 0:
                self._enqueue_missing_study(row)
        for edit in edits:
            self._enqueue_missing_edit(edit.study, edit.version)
        for comparison in compared:
            self._enqueue_missing_comparison(comparison)

    def _enqueue_missing_study(self, row: Any) -> None:
        job = list_study_jobs(row.id, row.options)[-1]
        state = DBOS.get_workflow_status(job)
        if state is None:
            self._submit_job(job, row.id, row.priority)
        elif state.status in _GIVEN_UP:
            self._steps.record_failure(row.id, 0, _make_given_up_error())
        elif state.status == "SUCCESS":
            # Nothing changes if the study has ended or was retried since its row was read.
            self.studies.restart(row.id, row.options, RUNNING_STATUSES)  # the next call queues the new job

    def _enqueue_missing_edit(self, study: str, version: int) -> None:
        this = (versions.c.study == study) & (versions.c.version == version) & versions.c.folder.is_(None)
        self._enqueue_or_fail(
            f"{study}-{version}",
            lambda job: self._enqueue(job, _EDIT, self._edit, study, version),
            select(versions.c.version).where(this),
            lambda error: self._steps.record_failure(study, version, error),
        )

    def _enqueue_missing_comparison(self, comparison: str) -> None:
        this = (comparisons.c.id == comparison) & comparisons.c.status.in_(("queued", "comparing"))
        self._enqueue_or_fail(
            comparison,
            lambda job: self._enqueue(job, _COMPARE, self._comparison, comparison),
            select(comparisons.c.id).where(this),
            lambda error: self._steps.record_comparison_failure(comparison, error),
        )

    def _enqueue_or_fail(
        self, job: str, submit: Callable[[str], None], unfinished: Select[Any], record: Callable[[Exception], None]
    ) -> None:
        state = DBOS.get_workflow_status(job)
        if state is not None and state.status == "SUCCESS":
            with self._engine.connect() as connection:
                if connection.execute(unfinished).first() is None:  # it has ended since its row was read
                    return
            job = _name_second_job(job)
            state = DBOS.get_workflow_status(job)
        if state is None:
            submit(job)
        elif state.status in _GIVEN_UP:
            record(_make_given_up_error())


def _name_second_job(job: str) -> str:
    """Return the ID of the job that follows one of an edit or comparison that ended without a result."""
    return f"{job}-retry1"


def _make_given_up_error() -> StrokesegError:
    return StrokesegError("this job failed repeatedly", "Try again; see the server's log.")
