"""Segment one study, from its path to its output files: the work of every worker, on this machine or on a cluster."""

from __future__ import annotations

from pathlib import Path

from strokeseg import pipeline, segmentation
from strokeseg.batch import inputs, remote_storage, result_files
from strokeseg.batch.records import (
    BatchSettings,
    BatchStudy,
    Failure,
    StudyRecord,
    Task,
    record_failure,
    record_success,
)
from strokeseg.errors import StrokesegError, describe_fault, is_out_of_memory
from strokeseg.outputs.folder import restore_interrupted

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


def build_thread_environment(settings: BatchSettings) -> dict[str, str]:
    """Return the environment variables that limit a worker to its threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(settings.threads))


def load_model(settings: BatchSettings) -> None:
    """Load the model once for all studies of a worker.

    Parameters
    ----------
    settings : BatchSettings
        Model, engine and threads.

    Raises
    ------
    ModelError
        `unknown-model`, `model-checksum`, `engine-missing`.
    """
    segmentation.load_engine(settings.model, settings.engine, settings.threads)


def segment_study(task: Task, settings: BatchSettings, scratch: Path | None = None) -> StudyRecord:
    """Segment a study and save its result into its folder.

    Parameters
    ----------
    task : Task
        The study.
    settings : BatchSettings
        Settings of all studies.
    scratch : Path, optional
        Folder for fetched files; None is the system's temporary folder.

    Returns
    -------
    StudyRecord
        The result or the failure.

    Raises
    ------
    MemoryError
        If memory runs out; the worker should end then.
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
                order=study.order or settings.order,
                operating_point=settings.operating_point,
                threshold=settings.threshold,
                smallest_ml=settings.smallest_ml,
                series=study.series,
                formats=settings.formats,
            )
            document = result.save(settings.out / study.id, settings.formats)
            files = result_files.compute_digests(settings.out / study.id, document.files.values())
    except StrokesegError as error:
        return record_failure(study, task.key, Failure.from_error(error))
    except remote_storage.FetchError as error:
        return record_failure(study, task.key, inputs.make_fetch_failure(error))
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError from None
        return record_failure(study, task.key, _make_internal_failure(error))
    return record_success(task, document, files)


def remove_partial_output(out: Path, study: BatchStudy) -> None:
    """Remove partial output of a killed worker from a study's folder, and no other files."""
    folder = out / study.id
    restore_interrupted(folder, ended=True)
    try:
        folder.rmdir()
    except OSError:  # does not exist, or holds an earlier result
        return


def _make_internal_failure(error: Exception) -> Failure:
    remedy = "Run strokeseg --debug on this study alone and report the output, without data that names a patient."
    return Failure(code="internal", message=describe_fault(error), remedy=remedy)
