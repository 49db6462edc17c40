"""Process series: decide when one is complete, choose its rule, submit the job, and put the results into the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import RowMapping, Select, select, update
from sqlalchemy.exc import SQLAlchemyError

from strokeseg.errors import NotFound, StrokesegError, UnreadableFile
from strokeseg.library_output import silence_libraries
from strokeseg.pacs import completion, outbox, rules
from strokeseg.pacs.completion import OpenAssociations
from strokeseg.pacs.database import outbox_table, series_table
from strokeseg.pacs.instance_files import read_header
from strokeseg.pacs.job_queue import JobQueue
from strokeseg.pacs.notices import ResultNotice
from strokeseg.pacs.settings import NodeSettings, Rule
from strokeseg.pacs.spool import FINAL_STATES, Spool
from strokeseg.reading.archives import archive
from strokeseg.reading.input_file import InputFile, list_folder
from strokeseg.result import ResultDocument
from strokeseg.web.database import studies
from strokeseg.web.schemas import RUNNING_STATUSES

log = logging.getLogger("strokeseg.node")

_HEADER_TAGS = [
    "BodyPartExamined",
    "SeriesDescription",
    "StudyDescription",
    "ConvolutionKernel",
    "SliceThickness",
    "NumberOfFrames",
    "AccessionNumber",
    "PatientID",
    "StudyDate",
    "StudyTime",
    "StudyInstanceUID",
]
_RETRY_PAUSE_S = 30.0


@dataclass(frozen=True)
class SeriesProcessor:
    """Processing of the series of one node.

    Attributes
    ----------
    settings : NodeSettings
        The node's settings.
    spool : Spool
        The node's received instances.
    associations : OpenAssociations
        The node's open associations.
    jobs : JobQueue
        Jobs of the web application.
    """

    settings: NodeSettings
    spool: Spool
    associations: OpenAssociations
    jobs: JobQueue
    _paused: dict[str, float] = field(default_factory=dict)

    def process_due(self) -> None:
        """Take the next step with every series: submit it if complete, or put its results into the outbox."""
        now = time.time()
        arriving = self.associations.list_series()
        local = self.settings.node
        for row in self._rows(select(series_table).where(series_table.c.state == "open")):
            progress = completion.SeriesProgress(row["instances"], row["expected"], row["committed"], row["last_at"])
            is_arriving = row["series_uid"] in arriving
            if reason := completion.find_completion_reason(progress, is_arriving, now, local.quiet_s, local.settle_s):
                self._run_guarded(row, now, partial(self._submit_series, row, reason))
        self._requeue_retried()
        for row in self._rows(select(series_table).where(series_table.c.state == "queued")):
            self._run_guarded(row, now, partial(self._finish_series, row))

    def _requeue_retried(self) -> None:
        """Expect the result of series that failed again if their study was retried in the worklist."""
        retried = select(studies.c.id).where(studies.c.status.in_((*RUNNING_STATUSES, "done")), ~studies.c.deleted)
        failed = (series_table.c.state == "failed") & series_table.c.job.in_(retried)
        if self._rows(select(series_table).where(failed)):
            with self.spool.engine.begin() as connection:
                connection.execute(update(series_table).where(failed).values(state="queued", why="retried"))

    def _run_guarded(self, row: RowMapping, now: float, step: Callable[[], None]) -> None:
        """Run a step of a series; after an error the series is paused, and the other series continue."""
        uid = row["series_uid"]
        if self._paused.get(uid, 0) > now:
            return
        self._paused.pop(uid, None)
        try:
            step()
        except SQLAlchemyError:
            raise
        except StrokesegError as error:
            log.warning("series %s: %s; retry in %g s", uid, error, _RETRY_PAUSE_S)
            self._paused[uid] = now + _RETRY_PAUSE_S
        except Exception:
            log.exception("series %s: internal error in StrokeSeg; retry in %g s", uid, _RETRY_PAUSE_S)
            self._paused[uid] = now + _RETRY_PAUSE_S

    def delete_expired(self) -> None:
        """Delete finished series and deliveries older than `keep_series_days`; without that setting, delete nothing.

        A series with an undelivered result is kept.
        """
        days = self.settings.node.keep_series_days
        if days is None:
            return
        since = time.time() - days * 86400
        undelivered = select(outbox_table.c.series_uid).where(outbox_table.c.state.in_(("waiting", "dead")))
        expired = (
            series_table.c.state.in_(FINAL_STATES)
            & (series_table.c.last_at < since)
            & series_table.c.series_uid.not_in(undelivered)
        )
        for row in self._rows(select(series_table).where(expired)):
            self.spool.delete_series(row["series_uid"])
            log.info("series %s deleted: it ended more than %g days ago", row["series_uid"], days)
        with self.spool.engine.begin() as connection:
            finished = outbox_table.c.state.in_(("sent", "withdrawn")) & (outbox_table.c.next_at < since)
            connection.execute(outbox_table.delete().where(finished))

    def _rows(self, query: Select[Any]) -> Sequence[RowMapping]:
        with self.spool.engine.connect() as connection:
            return connection.execute(query.order_by(series_table.c.first_at)).mappings().all()

    def _submit_series(self, row: RowMapping, reason: str) -> None:
        """Submit a complete series, or mark it as ignored if no rule applies."""
        files, key = self.spool.list_files_and_key(row["series_uid"])
        with silence_libraries():
            attributes = rules.read_attributes(read_headers(files), row["sender"])
        decision = rules.choose_rule(self.settings.rule, attributes)
        rule = decision.rule
        version = row["version"] + 1
        change = {"version": version, "why": reason, "rule": rule.name if rule else ""}
        if not row["prior"] and (rule is None or rule.do == "ignore"):
            log.info("series %s ignored: %s", row["series_uid"], decision.reasons[-1])
            self._update_series(row, state="ignored", **change)
            return
        suffix = f", version {version}: {row['instances']} instances" if version > 1 else ""
        job = self.jobs.submit(
            key,
            f"series {row['series_uid'][-12:]}{suffix}",
            files,
            model="default" if rule is None else rule.model,
            urgent=bool(rule and rule.urgent) and not row["prior"],
            decision={} if rule is None else rule.decision,
            formats=() if rule is None else _list_requested_formats(rule),  # also for a prior: a peer may send it later
        )
        log.info("series %s complete (%s), version %d, rule %s", row["series_uid"], reason, version, change["rule"])
        self._update_series(row, state="queued", job=job, **change)

    def _update_series(self, row: RowMapping, **change: object) -> None:
        # If an instance has arrived since, the series is open again and its state must not be overwritten.
        unchanged = (series_table.c.series_uid == row["series_uid"]) & (series_table.c.instances == row["instances"])
        with self.spool.engine.begin() as connection:
            connection.execute(update(series_table).where(unchanged).values(change))

    def _finish_series(self, row: RowMapping) -> None:
        """Put the results of a finished study into the outbox and set the series' final state, in one transaction."""
        job_state = self.jobs.read_state(row["job"])
        if not job_state.outcome:
            return
        rule = next((rule for rule in self.settings.rule if rule.name == row["rule"]), None)
        document = job_state.document
        with self.spool.engine.begin() as connection:
            unchanged = (
                (series_table.c.series_uid == row["series_uid"])
                & (series_table.c.state == "queued")
                & (series_table.c.job == row["job"])
            )
            change = {"state": "done", "why": row["why"]}
            if job_state.outcome != "done":
                change = {"state": "failed", "why": f"{job_state.outcome}: {job_state.reason}"}
            if not connection.execute(update(series_table).where(unchanged).values(change)).rowcount:
                return
            if rule is None or row["prior"] or document is None:
                return
            findings = document.findings
            content = {"study": row["job"]}
            for target, formats in _select_objects(rule, document).items():
                delivery = {**content, "what": formats}
                outbox.enqueue(connection, "send", target, row["series_uid"], row["version"], delivery)
            for notice in rule.tell:
                if notice.applies_to(findings.hemorrhage, findings.volume_ml):
                    outbox.enqueue(connection, "tell", notice.to, row["series_uid"], row["version"], content)
            if rule.priors:
                outbox.enqueue(connection, "prior", "archive", row["series_uid"], row["version"], content)

    def build_notice(self, row: RowMapping, study: str) -> ResultNotice:
        """Build the notice of a result.

        Parameters
        ----------
        row : RowMapping
            Row of the outbox.
        study : str
            Id of the study.

        Returns
        -------
        ResultNotice
            The notice.

        Raises
        ------
        NotFound
            `not-found`, if study or series was deleted.
        """
        document = self.jobs.read_state(study).document
        files = self.spool.list_files(row["series_uid"])
        if document is None or not files:
            raise NotFound(f"study {study}: was deleted; no notice can be sent", "No action is needed.")
        with silence_libraries():
            header = next(read_headers(files))
            study_uid, accession, patient_id = (
                str(header.get(keyword, "")) for keyword in ("StudyInstanceUID", "AccessionNumber", "PatientID")
            )
        findings = document.findings
        return ResultNotice(
            key=row["id"],
            study_uid=study_uid,
            series_uid=row["series_uid"],
            accession=accession,
            patient_id=patient_id,
            version=row["version"],
            hemorrhage=findings.hemorrhage,
            confidence=findings.confidence,
            volume_ml=findings.volume_ml,
            interval_ml=findings.volume_interval_ml,
            at=datetime.fromtimestamp(row["first_at"], UTC).isoformat(timespec="seconds"),
            software=document.software,
            model=f"{document.model.name} {document.model.version}",
        )


def _select_objects(rule: Rule, document: ResultDocument) -> dict[str, list[str]]:
    """Return the formats of this result that each target receives."""
    findings = document.findings
    formats_by_target: dict[str, list[str]] = {}
    for delivery in rule.send:
        if delivery.applies_to(findings.hemorrhage, findings.volume_ml):
            formats = formats_by_target.setdefault(delivery.to, [])
            formats += [format_name for format_name in delivery.what if format_name not in formats]
    return formats_by_target


def read_attributes_by_series(path: Path) -> list[tuple[str, rules.SeriesAttributes]]:
    """Read the attributes that the rules match, for each series in a folder, zip or file; the sender is unknown.

    Parameters
    ----------
    path : Path
        Folder, zip or file.

    Returns
    -------
    list of tuple of (str, SeriesAttributes)
        Series UID and attributes.

    Raises
    ------
    UnreadableFile
        `unreadable`, if there are no DICOM files.
    """
    headers_by_series: dict[str, list[Dataset]] = {}
    if not path.exists():
        raise UnreadableFile(f"{path}: no such file or folder", "Check the path.")
    with silence_libraries(), ExitStack() as stack:
        for file in _list_input_files(path, stack):
            try:
                header = read_header(file, [*_HEADER_TAGS, "SeriesInstanceUID"])
            except Exception:  # files that are not DICOM are skipped: they never arrive over an association
                continue
            headers_by_series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    if not headers_by_series:
        remedy = "Give a folder or zip with a DICOM series, or one of its files; a node receives no other formats."
        raise UnreadableFile(f"{path}: contains no DICOM files", remedy)
    return [(uid, rules.read_attributes(headers, "")) for uid, headers in headers_by_series.items()]


def _list_input_files(path: Path, stack: ExitStack) -> Iterable[InputFile]:
    """Return the files of a folder or archive, or the file itself."""
    if path.is_dir():
        return list_folder(path)
    members = stack.enter_context(archive.open_archive(path))
    return [InputFile(path.name, path=path)] if members is None else members


def read_headers(files: Sequence[Path]) -> Iterator[Dataset]:
    """Read the attributes of each file that rules and notices need."""
    for path in files:
        yield read_header(InputFile(path.name, path=path), _HEADER_TAGS)


def _list_requested_formats(rule: Rule) -> tuple[str, ...]:
    return tuple(sorted({format_name for delivery in rule.send for format_name in delivery.what}))
