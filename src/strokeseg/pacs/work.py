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
from strokeseg.pacs import arrival, outbox, rules
from strokeseg.pacs.arrival import Associations
from strokeseg.pacs.jobs import Jobs
from strokeseg.pacs.notice import News
from strokeseg.pacs.settings import Rule, Settings
from strokeseg.pacs.spool import ENDED, Spool
from strokeseg.pacs.tables import outbox as outbox_table
from strokeseg.pacs.tables import series
from strokeseg.read import packed
from strokeseg.read.archive import Member, from_folder
from strokeseg.read.quiet import quiet
from strokeseg.result import ResultDocument

log = logging.getLogger("strokeseg.node")

_TAGS = [
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
_PAUSE_S = 30.0


@dataclass(frozen=True)
class Work:
    """One node's series on their way.

    Parameters
    ----------
    settings, spool, associations : of the node
    jobs : of the web application
    """

    settings: Settings
    spool: Spool
    associations: Associations
    jobs: Jobs
    _paused: dict[str, float] = field(default_factory=dict)

    def step(self) -> None:
        """Do what is due with every series: decide, submit, or put the results into the outbox."""
        now = time.time()
        carried = self.associations.carried()
        local = self.settings.node
        for row in self._rows(select(series).where(series.c.state == "open")):
            progress = arrival.Progress(row["instances"], row["expected"], row["committed"], row["last_at"])
            here = row["series_uid"] in carried
            if why := arrival.complete(progress, here, now, local.quiet_s, local.settle_s):
                self._guarded(row, now, partial(self._begin, row, why))
        for row in self._rows(select(series).where(series.c.state == "queued")):
            self._guarded(row, now, partial(self._end, row))

    def _guarded(self, row: RowMapping, now: float, do: Callable[[], None]) -> None:
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
            log.warning("series %s: %s; again in %g s", uid, error, _PAUSE_S)
            self._paused[uid] = now + _PAUSE_S
        except Exception:
            log.exception("series %s: a fault of ours; again in %g s", uid, _PAUSE_S)
            self._paused[uid] = now + _PAUSE_S

    def clean(self) -> None:
        """Forget series that ended, and deliveries that went out, `keep_series_days` ago; never where that is not said.

        A series of which something is undelivered stays.
        """
        days = self.settings.node.keep_series_days
        if days is None:
            return
        since = time.time() - days * 86400
        undelivered = select(outbox_table.c.series_uid).where(outbox_table.c.state.in_(("waiting", "dead")))
        old = series.c.state.in_(ENDED) & (series.c.last_at < since) & series.c.series_uid.not_in(undelivered)
        for row in self._rows(select(series).where(old)):
            self.spool.forget(row["series_uid"])
            log.info("series %s forgotten: it ended more than %g days ago", row["series_uid"], days)
        with self.spool.engine.begin() as connection:
            gone = outbox_table.c.state.in_(("sent", "withdrawn")) & (outbox_table.c.next_at < since)
            connection.execute(outbox_table.delete().where(gone))

    def _rows(self, query: Select[Any]) -> Sequence[RowMapping]:
        with self.spool.engine.connect() as connection:
            return connection.execute(query.order_by(series.c.first_at)).mappings().all()

    def _begin(self, row: RowMapping, why: str) -> None:
        """Submit a complete series, or note that no rule wants it."""
        files, key = self.spool.contents(row["series_uid"])
        decision = rules.decide(self.settings.rule, rules.seen(headers(files), row["sender"]))
        rule = decision.rule
        version = row["version"] + 1
        change = {"version": version, "why": why, "rule": rule.name if rule else ""}
        if not row["prior"] and (rule is None or rule.do == "ignore"):
            log.info("series %s ignored: %s", row["series_uid"], decision.reasons[-1])
            self._set(row, state="ignored", **change)
            return
        said = f", version {version}: {row['instances']} instances" if version > 1 else ""
        job = self.jobs.submit(
            key,
            f"series {row['series_uid'][-12:]}{said}",
            files,
            model="default" if rule is None else rule.model,
            urgent=bool(rule and rule.urgent) and not row["prior"],
            formats=() if rule is None else _formats(rule),  # of a prior too: somebody may send it later
        )
        log.info("series %s complete (%s), version %d, rule %s", row["series_uid"], why, version, change["rule"])
        self._set(row, state="queued", job=job, **change)

    def _set(self, row: RowMapping, **change: object) -> None:
        # A slice that came since then has opened the series again: its state is then not ours to set.
        same = (series.c.series_uid == row["series_uid"]) & (series.c.instances == row["instances"])
        with self.spool.engine.begin() as connection:
            connection.execute(update(series).where(same).values(change))

    def _end(self, row: RowMapping) -> None:
        """Put what is to go out of a finished study into the outbox, and its end into the row: both or neither."""
        state = self.jobs.state(row["job"])
        if not state.ended:
            return
        rule = next((one for one in self.settings.rule if one.name == row["rule"]), None)
        document = state.document
        with self.spool.engine.begin() as connection:
            same = (
                (series.c.series_uid == row["series_uid"]) & (series.c.state == "queued") & (series.c.job == row["job"])
            )
            ended = "done" if state.ended == "done" else "failed"
            change = {"state": ended, "why": row["why"] if ended == "done" else f"{state.ended}: {state.why}"}
            if not connection.execute(update(series).where(same).values(change)).rowcount:
                return
            if rule is None or row["prior"] or document is None:
                return
            found = document.findings
            content = {"study": row["job"]}
            for target, what in _parcels(rule, document).items():
                parcel = {**content, "what": what}
                outbox.put(connection, "send", target, row["series_uid"], row["version"], parcel)
            for telling in rule.tell:
                if telling.holds(found.hemorrhage, found.volume_ml):
                    outbox.put(connection, "tell", telling.to, row["series_uid"], row["version"], content)
            if rule.priors:
                outbox.put(connection, "prior", "archive", row["series_uid"], row["version"], content)

    def news(self, row: RowMapping, study: str) -> News:
        """Give what is told of a result; ``row`` is one of the outbox.

        Raises
        ------
        NotFound
            `not-found`, if study or series is gone
        """
        document = self.jobs.state(study).document
        files = self.spool.files(row["series_uid"])
        if document is None or not files:
            raise NotFound(f"study {study}: is gone, nothing can be told of it", "Nothing is to be done.")
        first = next(headers(files))
        found = document.findings
        return News(
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


def _parcels(rule: Rule, document: ResultDocument) -> dict[str, list[str]]:
    """Give for each target the formats that it gets of this result."""
    found = document.findings
    parcels: dict[str, list[str]] = {}
    for delivery in rule.send:
        if delivery.holds(found.hemorrhage, found.volume_ml):
            parcel = parcels.setdefault(delivery.to, [])
            parcel += [what for what in delivery.what if what not in parcel]
    return parcels


def seen_in(path: Path) -> list[tuple[str, rules.Seen]]:
    """Give of each series in a folder, zip or file its UID and what the rules ask; of the sender nothing is known.

    Raises
    ------
    UnreadableFile
        `unreadable`, if there is no DICOM
    """
    found: dict[str, list[Dataset]] = {}
    if not path.exists():
        raise UnreadableFile(f"{path}: there is no such file or folder", "Check the path.")
    with quiet(), ExitStack() as stack:
        packs = None if path.is_dir() else stack.enter_context(packed.opened(path))
        one = [Member(path.name, path=path)]
        for member in from_folder(path) if path.is_dir() else one if packs is None else packs:
            try:
                with member.open() as stream:
                    header = dcmread(stream, stop_before_pixels=True, specific_tags=[*_TAGS, "SeriesInstanceUID"])
            except Exception:  # whatever is not DICOM is passed over, as it never comes by an association
                continue
            found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    if not found:
        remedy = "Give a folder or zip with a series, or one of its files; pictures and NIfTI never come to a node."
        raise UnreadableFile(f"{path}: holds no DICOM files", remedy)
    return [(uid, rules.seen(group, "")) for uid, group in found.items()]


def headers(files: Sequence[Path]) -> Iterator[Dataset]:
    """Read of each file what rules and notices need."""
    for path in files:
        yield dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)


def _formats(rule: Rule) -> tuple[str, ...]:
    return tuple(sorted({what for delivery in rule.send for what in delivery.what}))
