"""Creating a study from received files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from fastapi import Request, Response

from strokeseg.segmentation import models
from strokeseg.web import study_files
from strokeseg.web.auth import User
from strokeseg.web.context import AppContext
from strokeseg.web.schemas import Study, StudyOptions
from strokeseg.web.study_files import ReceivedFile
from strokeseg.web.study_store import NewStudy


@dataclass(frozen=True)
class StudyRequest:
    """A request to create a study.

    Attributes
    ----------
    user : User
        The user; owner of the study.
    options : StudyOptions
        The study's options.
    key : str
        The idempotency key; empty if there is none.
    fingerprint : str
        Checksum of the request with the key.
    request : Request
        The HTTP request.
    response : Response
        The HTTP response, whose status and headers are set.
    """

    user: User
    options: StudyOptions
    key: str
    fingerprint: str
    request: Request
    response: Response


def create_study(context: AppContext, new: StudyRequest, files: list[ReceivedFile], folder: Path) -> Study:
    """Create a study, unless the idempotency key created it before.

    The files are stored first, then the row, then the job. If the process dies in between, nothing is incomplete: files
    without a row are ignored, and a row without a job is found by
    :meth:`strokeseg.web.jobs.JobQueue.enqueue_missing`.

    Parameters
    ----------
    context : AppContext
        The server's parts.
    new : StudyRequest
        The request.
    files : list of ReceivedFile
        The study's files.
    folder : Path
        Temporary folder of the files.

    Returns
    -------
    Study
        The study.
    """
    options, user = new.options, new.user
    reading_options = study_files.parse_study_options(options)
    models.load_card(options.model)
    name = study_files.clean_text(options.name) or (files[0].name.split("/")[0] if files else "")
    upload = study_files.pack_files(files, folder)
    study, size = uuid4().hex, upload.stat().st_size
    context.guard.audit(user, "upload", study, "done", new.request)
    context.storage.put(upload, f"studies/{study}/upload/{upload.name}")
    row = NewStudy(
        id=study,
        name=name,
        upload=upload.name,
        size=size,
        options=reading_options,
        model=options.model,
        priority=options.priority,
        key=new.key,
        fingerprint=new.fingerprint,
    )
    try:
        created, is_new = context.jobs.studies.add(row, user.name, user.group)
    except BaseException:
        context.storage.remove(f"studies/{study}")
        raise
    if is_new:
        context.jobs.submit(created, options.priority)
    else:
        context.storage.remove(f"studies/{study}")
        new.response.status_code = 200
    new.response.headers["Location"] = f"{context.settings.base_path}/api/v1/studies/{created}"
    return context.jobs.studies.get_study(created, user)
