"""What becomes of a series: complete, by which rule, the job, and what of its result is to go out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import RowMapping, Select, select, update
from sqlalchemy.exc import SQLAlchemyError

from strokeseg.errors import NotFound, StrokesegError, UnreadableFile
from strokeseg.pacs import completion, outbox, rules
from strokeseg.pacs.completion import OpenAssociations
from strokeseg.pacs.database import outbox_table as outbox_table
from strokeseg.pacs.database import series_table
from strokeseg.pacs.job_queue import JobQueue
from strokeseg.pacs.notices import ResultNotice
from strokeseg.pacs.settings import NodeSettings, Rule
from strokeseg.pacs.spool import FINAL_STATES, Spool
from strokeseg.reading.archives import archive
from strokeseg.reading.input_file import InputFile, list_folder
from strokeseg.reading.library_output import silence_libraries
from strokeseg.result import ResultDocument

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
    """One node's series on their way.

    Parameters
    ----------
    settings, spool, associations : NodeSettings
        Of the node.
    jobs : JobQueue
        Of the web application.
    """

    settings: NodeSettings
    spool: Spool
    associations: OpenAssociations
    jobs: JobQueue
    _paused: dict[str, float] = field(default_factory=dict)

    def process_due(self) -> None:
        """Do what is due with every series: decide, submit, or put the results into the outbox."""
        now = time.time()
        carried = self.associations.list_series()
        local = self.settings.node
        for row in self._rows(select(series_table).where(series_table.c.state == "open")):
            progress = completion.SeriesProgress(row["instances"], row["expected"], row["committed"], row["last_at"])
            here = row["series_uid"] in carried
            if why := completion.find_completion_reason(progress, here, now, local.quiet_s, local.settle_s):
                self._run_guarded(row, now, partial(self._submit_series, row, why))
        for row in self._rows(select(series_table).where(series_table.c.state == "queued")):
            self._run_guarded(row, now, partial(self._finish_series, row))

    def _run_guarded(self, row: RowMapping, now: float, do: Callable[[], None]) -> None:
        """Do something with a series; one that meets a fault is left for a while, and the others go on."""
        uid = row["series_uid"]
        if self._paused.get(uid, 0) > now:
            return
        self._paused.pop(uid, None)
        try:
            do()
        except SQLAlchemyError:
            raise
        except StrokesegError as error:
            log.warning("series %s: %s; again in %g s", uid, error, _RETRY_PAUSE_S)
            self._paused[uid] = now + _RETRY_PAUSE_S
        except Exception:
            log.exception("series %s: a fault of ours; again in %g s", uid, _RETRY_PAUSE_S)
            self._paused[uid] = now + _RETRY_PAUSE_S

    def delete_expired(self) -> None:
        """Forget series that ended, and deliveries that went out, `keep_series_days` ago; never where that is not said.

        A series of which something is undelivered stays.
        """
        days = self.settings.node.keep_series_days
        if days is None:
            return
        since = time.time() - days * 86400
        undelivered = select(outbox_table.c.series_uid).where(outbox_table.c.state.in_(("waiting", "dead")))
        old = (
            series_table.c.state.in_(FINAL_STATES)
            & (series_table.c.last_at < since)
            & series_table.c.series_uid.not_in(undelivered)
        )
        for row in self._rows(select(series_table).where(old)):
            self.spool.delete_series(row["series_uid"])
            log.info("series %s forgotten: it ended more than %g days ago", row["series_uid"], days)
        with self.spool.engine.begin() as connection:
            gone = outbox_table.c.state.in_(("sent", "withdrawn")) & (outbox_table.c.next_at < since)
            connection.execute(outbox_table.delete().where(gone))

    def _rows(self, query: Select[Any]) -> Sequence[RowMapping]:
        with self.spool.engine.connect() as connection:
            return connection.execute(query.order_by(series_table.c.first_at)).mappings().all()

    def _submit_series(self, row: RowMapping, why: str) -> None:
        """Submit a complete series, or note that no rule wants it."""
        files, key = self.spool.list_files_and_key(row["series_uid"])
        decision = rules.choose_rule(self.settings.rule, rules.read_attributes(read_headers(files), row["sender"]))
        rule = decision.rule
        version = row["version"] + 1
        change = {"version": version, "why": why, "rule": rule.name if rule else ""}
        if not row["prior"] and (rule is None or rule.do == "ignore"):
            log.info("series %s ignored: %s", row["series_uid"], decision.reasons[-1])
            self._update_series(row, state="ignored", **change)
            return
        said = f", version {version}: {row['instances']} instances" if version > 1 else ""
        job = self.jobs.submit(
            key,
            f"series {row['series_uid'][-12:]}{said}",
            files,
            model="default" if rule is None else rule.model,
            urgent=bool(rule and rule.urgent) and not row["prior"],
            formats=() if rule is None else _list_requested_formats(rule),  # of a prior too: somebody may send it later
        )
        log.info("series %s complete (%s), version %d, rule %s", row["series_uid"], why, version, change["rule"])
        self._update_series(row, state="queued", job=job, **change)

    def _update_series(self, row: RowMapping, **change: object) -> None:
        # A slice that came since then has opened the series again: its state is then not ours to set.
        same = (series_table.c.series_uid == row["series_uid"]) & (series_table.c.instances == row["instances"])
        with self.spool.engine.begin() as connection:
            connection.execute(update(series_table).where(same).values(change))

    def _finish_series(self, row: RowMapping) -> None:
        """Put what is to go out of a finished study into the outbox, and its end into the row: both or neither."""
        state = self.jobs.read_state(row["job"])
        if not state.outcome:
            return
        rule = next((one for one in self.settings.rule if one.name == row["rule"]), None)
        document = state.document
        with self.spool.engine.begin() as connection:
            same = (
                (series_table.c.series_uid == row["series_uid"])
                & (series_table.c.state == "queued")
                & (series_table.c.job == row["job"])
            )
            ended = "done" if state.outcome == "done" else "failed"
            change = {"state": ended, "why": row["why"] if ended == "done" else f"{state.outcome}: {state.reason}"}
            if not connection.execute(update(series_table).where(same).values(change)).rowcount:
                return
            if rule is None or row["prior"] or document is None:
                return
            found = document.findings
            content = {"study": row["job"]}
            for target, what in _select_objects(rule, document).items():
                parcel = {**content, "what": what}
                outbox.enqueue(connection, "send", target, row["series_uid"], row["version"], parcel)
            for telling in rule.tell:
                if telling.applies_to(found.hemorrhage, found.volume_ml):
                    outbox.enqueue(connection, "tell", telling.to, row["series_uid"], row["version"], content)
            if rule.priors:
                outbox.enqueue(connection, "prior", "archive", row["series_uid"], row["version"], content)

    def build_notice(self, row: RowMapping, study: str) -> ResultNotice:
        """Return what is told of a result; ``row`` is one of the outbox.

        Raises
        ------
        NotFound
            `not-found`, if study or series is gone.
        """
        document = self.jobs.read_state(study).document
        files = self.spool.list_files(row["series_uid"])
        if document is None or not files:
            raise NotFound(f"study {study}: is gone, nothing can be told of it", "Nothing is to be done.")
        first = next(read_headers(files))
        found = document.findings
        return ResultNotice(
            key=row["id"],
            study_uid=str(first.get("StudyInstanceUID", "")),
            series_uid=row["series_uid"],
            accession=str(first.get("AccessionNumber", "")),
            patient_id=str(first.get("PatientID", "")),
            version=row["version"],
            hemorrhage=found.hemorrhage,
            confidence=found.confidence,
            volume_ml=found.volume_ml,
            interval_ml=found.volume_interval_ml,
            at=datetime.fromtimestamp(row["first_at"], UTC).isoformat(timespec="seconds"),
            software=document.software,
            model=f"{document.model.name} {document.model.version}",
        )


def _select_objects(rule: Rule, document: ResultDocument) -> dict[str, list[str]]:
    """Give for each target the formats that it gets of this result."""
    found = document.findings
    parcels: dict[str, list[str]] = {}
    for delivery in rule.send:
        if delivery.applies_to(found.hemorrhage, found.volume_ml):
            parcel = parcels.setdefault(delivery.to, [])
            parcel += [what for what in delivery.what if what not in parcel]
    return parcels


def read_attributes_by_series(path: Path) -> list[tuple[str, rules.SeriesAttributes]]:
    """Give of each series in a folder, zip or file its UID and what the rules ask; of the sender nothing is known.

    Raises
    ------
    UnreadableFile
        `unreadable`, if there is no DICOM.
    """
    found: dict[str, list[Dataset]] = {}
    if not path.exists():
        raise UnreadableFile(f"{path}: there is no such file or folder", "Check the path.")
    with silence_libraries(), ExitStack() as stack:
        packs = None if path.is_dir() else stack.enter_context(archive.open_archive(path))
        one = [InputFile(path.name, path=path)]
        for member in list_folder(path) if path.is_dir() else one if packs is None else packs:
            try:
                with member.open() as stream:
                    header = dcmread(
                        stream, stop_before_pixels=True, specific_tags=[*_HEADER_TAGS, "SeriesInstanceUID"]
                    )
            except Exception:  # whatever is not DICOM is passed over, as it never comes by an association
                continue
            found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    if not found:
        remedy = "Give a folder or zip with a series, or one of its files; pictures and NIfTI never come to a node."
        raise UnreadableFile(f"{path}: holds no DICOM files", remedy)
    return [(uid, rules.read_attributes(group, "")) for uid, group in found.items()]


def read_headers(files: Sequence[Path]) -> Iterator[Dataset]:
    """Read of each file what rules and notices need."""
    for path in files:
        yield dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)


def _list_requested_formats(rule: Rule) -> tuple[str, ...]:
    return tuple(sorted({what for delivery in rule.send for what in delivery.what}))
