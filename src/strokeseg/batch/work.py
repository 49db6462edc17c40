"""One study, from its path to its files: what every worker does, on this machine and on a cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

from strokeseg import infer, pipeline
from strokeseg.batch import inputs, remote
from strokeseg.batch.study import Failure, Record, Settings, Study, Task, done, failed
from strokeseg.errors import StrokesegError
from strokeseg.write.folder import OURS

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


def environment(settings: Settings) -> dict[str, str]:
    """Give the variables that hold a worker to its threads."""
    return dict.fromkeys(_THREADS, str(settings.threads))


def ready(settings: Settings) -> None:
    """Load the network, once for all studies of a worker.

    Raises
    ------
    ModelError
        `unknown-model`, `model-checksum`, `engine-missing`
    """
    infer.load(settings.model, settings.engine, settings.threads)


def answer(task: Task, settings: Settings, scratch: Path | None = None) -> Record:
    """Segment a study and save its result into its folder; say what became of it.

    Parameters
    ----------
    scratch : folder for what must be fetched; None is the system's for temporary files

    Raises
    ------
    MemoryError
        which a worker should not outlive
    """
    study = task.study
    try:
        with remote.fetched(study, scratch) as path:
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
        return failed(study, task.key, Failure.of(error))
    except remote.NotFetchedError as error:
        return failed(study, task.key, inputs.not_fetched(error))
    except MemoryError:
        raise
    except Exception as error:
        return failed(study, task.key, _fault(error))
    return done(task, document)


def tidy(out: Path, study: Study) -> None:
    """Remove what a worker that was ended has left half-made in a study's folder; nothing else that lies there."""
    folder = out / study.id
    partials = list(folder.glob(".strokeseg-*.partial"))
    if partials and not (folder / "result.json").exists():  # it was ended while files were put in place
        for file in folder.iterdir():
            if OURS.fullmatch(file.name) and file.is_file():
                file.unlink()
    for partial in partials:
        shutil.rmtree(partial, ignore_errors=True)
    try:
        folder.rmdir()
    except OSError:  # it is not there, or holds an earlier result
        return


def _fault(error: Exception) -> Failure:
    """Say that it is our fault, and where; an unexpected exception's own words may hold the patient's data."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    where = f" in {frame.tb_frame.f_globals.get('__name__', '?')}, line {frame.tb_lineno}" if frame else ""
    message = f"this is a fault of StrokeSeg, not yours: {type(error).__name__}{where}"
    remedy = "Segment this study alone with strokeseg --debug and report what it shows, without what names a patient."
    return Failure.model_validate({"code": "internal", "message": message, "remedy": remedy})
