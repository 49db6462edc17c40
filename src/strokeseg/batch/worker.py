"""One study, from its path to its files: what every worker does, on this machine and on a cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

from strokeseg import pipeline, segmentation
from strokeseg.batch import inputs, remote_storage
from strokeseg.batch.records import (
    BatchSettings,
    BatchStudy,
    Failure,
    StudyRecord,
    Task,
    record_failure,
    record_success,
)
from strokeseg.errors import StrokesegError
from strokeseg.outputs.folder import OUTPUT_NAMES

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


def build_thread_environment(settings: BatchSettings) -> dict[str, str]:
    """Return the variables that hold a worker to its threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(settings.threads))


def load_model(settings: BatchSettings) -> None:
    """Load the network, once for all studies of a worker.

    Raises
    ------
    ModelError
        `unknown-model`, `model-checksum`, `engine-missing`.
    """
    segmentation.load_engine(settings.model, settings.engine, settings.threads)


def segment_study(task: Task, settings: BatchSettings, scratch: Path | None = None) -> StudyRecord:
    """Segment a study and save its result into its folder; say what became of it.

    Parameters
    ----------
    scratch : Path, optional
        Folder for what must be fetched; None is the system's for temporary files.

    Raises
    ------
    MemoryError
        Which a worker should not outlive.
    """
    study = task.study
    try:
        with remote_storage.fetch_study(study, scratch) as path:
            result = pipeline.segment(
                path,
                model=study.model or settings.model,
                engine=settings.engine,
                threads=settings.threads,
                window=study.window or settings.window,
                spacing_mm=study.spacing_mm or settings.spacing_mm,
                series=study.series,
                formats=settings.formats,
            )
            document = result.save(settings.out / study.id, settings.formats)
    except StrokesegError as error:
        return record_failure(study, task.key, Failure.from_error(error))
    except remote_storage.FetchError as error:
        return record_failure(study, task.key, inputs.make_fetch_failure(error))
    except MemoryError:
        raise
    except Exception as error:
        return record_failure(study, task.key, _make_internal_failure(error))
    return record_success(task, document)


def remove_partial_output(out: Path, study: BatchStudy) -> None:
    """Remove what a worker that was ended has left half-made in a study's folder; nothing else that lies there."""
    folder = out / study.id
    partials = list(folder.glob(".strokeseg-*.partial"))
    if partials and not (folder / "result.json").exists():  # it was ended while files were put in place
        for file in folder.iterdir():
            if OUTPUT_NAMES.fullmatch(file.name) and file.is_file():
                file.unlink()
    for partial in partials:
        shutil.rmtree(partial, ignore_errors=True)
    try:
        folder.rmdir()
    except OSError:  # it is not there, or holds an earlier result
        return


def _make_internal_failure(error: Exception) -> Failure:
    """Say that it is our fault, and where; an unexpected exception's own words may hold the patient's data."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    where = f" in {frame.tb_frame.f_globals.get('__name__', '?')}, line {frame.tb_lineno}" if frame else ""
    message = f"this is a fault of StrokeSeg, not yours: {type(error).__name__}{where}"
    remedy = "Segment this study alone with strokeseg --debug and report what it shows, without what names a patient."
    return Failure.model_validate({"code": "internal", "message": message, "remedy": remedy})
