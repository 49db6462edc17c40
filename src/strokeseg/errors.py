"""Every error that StrokeSeg raises on purpose, in one tree.

::

    StrokesegError
    ├── InputError                    the scan cannot be used as it is (exit code 3)
    │   ├── UnreadableFile            unreadable
    │   ├── UnsupportedTransferSyntax transfer-syntax
    │   ├── NotCT                     not-ct
    │   ├── NotHead                   not-head
    │   ├── NoHounsfield              no-hounsfield
    │   ├── SeveralSeries             several-series
    │   ├── EmptyInput                empty
    │   ├── InconsistentGeometry      geometry
    │   ├── DifferentPatients         different-patients
    │   ├── TooLarge                  too-large
    │   └── UnsafeArchive             unsafe-archive
    ├── UsageError                    usage (exit code 2)
    ├── ModelError                    the network cannot be used (exit code 3)
    │   ├── UnknownModel              unknown-model
    │   ├── CorruptModel              model-checksum
    │   └── EngineMissing             engine-missing
    ├── OutputError                   the results cannot be written (exit code 3)
    │   ├── DiskFull                  disk-full
    │   └── NotWritable               not-writable
    ├── NotEnoughMemory               memory (exit code 3)
    ├── TrainError                    train: a training or evaluation set cannot be used (exit code 3)
    │   └── Leakage                   leakage
    └── ServiceError                  the web application and the node
        ├── Unauthorized              unauthorized
        ├── NotFound                  not-found
        ├── Conflict                  conflict
        ├── Busy                      busy
        ├── UnusableDatabase          database
        └── NotDelivered              not-delivered

Each error carries a stable ``code``, a sentence that names the file or field and the problem, and a ``remedy``. The
sentences contain no patient data. The command line, the REST interface and the logs use the same codes.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any


class StrokesegError(Exception):
    """Base class of all errors.

    Parameters
    ----------
    message : str
        One sentence: the file or field, its actual value, the expected value.
    remedy : str, optional
        One sentence: what the user can do; by default the general remedy of the class.
    """

    code = "error"
    default_remedy = "See docs/codes.md."
    exit_code = 3

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.default_remedy

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.message, self.remedy)


class InputError(StrokesegError):
    """The scan cannot be used as it is."""

    code = "input"


class UnreadableFile(InputError):
    """A file is missing, damaged, or in an unknown format."""

    code = "unreadable"
    default_remedy = "Give a DICOM folder, zip or file, a NIfTI, NRRD or MetaImage file, or pictures."


class UnsupportedTransferSyntax(InputError):
    """No installed decoder reads the compression of the pixel data."""

    code = "transfer-syntax"
    default_remedy = "Decompress the series first, for example with dcmdjpeg or gdcmconv --raw."


class NotCT(InputError):
    """The image is of another modality."""

    code = "not-ct"
    default_remedy = "Give a non-contrast CT of the head."


class NotHead(InputError):
    """The pixels do not show a head."""

    code = "not-head"
    default_remedy = "Give an axial CT of the head."


class NoHounsfield(InputError):
    """The values are not Hounsfield units, and the file does not state how to rescale them."""

    code = "no-hounsfield"
    default_remedy = "Export it again with rescale slope and intercept, or give it as pictures with --window."


class SeveralSeries(InputError):
    """The input contains more than one head CT series and none stands out."""

    code = "several-series"
    default_remedy = "Name one of them with --series."


class EmptyInput(InputError):
    """The input is empty."""

    code = "empty"
    default_remedy = "Give a path that contains a head CT."


class InconsistentGeometry(InputError):
    """The slices do not fit together into one volume."""

    code = "geometry"
    default_remedy = "Give one series alone, as it was acquired."


class DifferentPatients(InputError):
    """Two scans to compare show different heads, by their headers or their skulls."""

    code = "different-patients"
    default_remedy = "Give two scans of one patient; if you know that they are, use --same-patient."


class TooLarge(InputError):
    """The input exceeds a limit."""

    code = "too-large"
    default_remedy = "Give one head series; `strokeseg doctor` lists the limits."


class UnsafeArchive(InputError):
    """An archive points out of its folder, or unpacks to far more than its size."""

    code = "unsafe-archive"
    default_remedy = "Unpack the archive yourself, inspect it, and give the folder."


class UsageError(StrokesegError):
    """An argument is invalid."""

    code = "usage"
    exit_code = 2
    default_remedy = "See --help."


class ModelError(StrokesegError):
    """The network cannot be used."""

    code = "model"


class UnknownModel(ModelError):
    """No model of that name is installed."""

    code = "unknown-model"
    default_remedy = "List the installed models with `strokeseg models list`."


class CorruptModel(ModelError):
    """The checksum of a model differs from the one in its card."""

    code = "model-checksum"
    default_remedy = "Install StrokeSeg again; `strokeseg models verify` checks every file."


class EngineMissing(ModelError):
    """The requested inference engine is not installed."""

    code = "engine-missing"
    default_remedy = "Use --engine auto, or install the engine; `strokeseg doctor` lists the installed ones."


class OutputError(StrokesegError):
    """The results cannot be written."""

    code = "output"


class DiskFull(OutputError):
    """No space is left."""

    code = "disk-full"
    default_remedy = "Free space or give another output folder; no incomplete file was left."


class NotWritable(OutputError):
    """The output folder cannot be written."""

    code = "not-writable"
    default_remedy = "Give a writable folder with -o."


class NotEnoughMemory(StrokesegError):
    """The system gives this process too little memory."""

    code = "memory"
    default_remedy = "Close other programs, or raise the limit of this process (ulimit -v, or that of its container)."


class TrainError(StrokesegError):
    """A training configuration or an evaluation set cannot be used."""

    code = "train"
    default_remedy = "Correct the configuration or the data folder that the message names."


class Leakage(TrainError):
    """Validation or test images are identical or nearly identical to training images."""

    code = "leakage"
    default_remedy = "Leave these images out; `strokeseg train CONFIG --write-split FILE` does so for a split."


class ServiceError(StrokesegError):
    """The web application or the node refuses a request."""

    code = "service"


class Unauthorized(ServiceError):
    """The request has no valid token, or its scope does not allow it."""

    code = "unauthorized"


class NotFound(ServiceError):
    """The study or file does not exist."""

    code = "not-found"


class Conflict(ServiceError):
    """The request contradicts the stored state."""

    code = "conflict"


class Busy(ServiceError):
    """Too many jobs are waiting."""

    code = "busy"


class UnusableDatabase(ServiceError):
    """The database cannot be opened, is damaged, or is not the one of the storage."""

    code = "database"
    default_remedy = "Set it with --database; it must exist, run and allow writing."


class NotDelivered(ServiceError):
    """A message or object was not delivered to another system; it may be delivered later."""

    code = "not-delivered"
    default_remedy = "`strokeseg node --check` shows which peer does not answer, and why."


_OUT_OF_MEMORY_TEXTS = (
    "bad_alloc",
    "bad allocation",
    "allocate memory",
    "failed to allocate",
    "failed to map segment",
    "can't start new thread",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the system refused memory: to Python, to a library's own code, for a thread or for a module.

    Libraries raise their own errors, which are told by their words.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | ImportError) and any(each in text for each in _OUT_OF_MEMORY_TEXTS)


def describe_fault(error: BaseException) -> str:
    """Describe an unexpected exception, an internal error of StrokeSeg, by its type and line.

    The exception's own message is left out: it may hold patient data.

    Parameters
    ----------
    error : BaseException
        The exception, with its traceback.

    Returns
    -------
    str
        Such as "internal error in StrokeSeg: KeyError in strokeseg.scan, line 12".
    """
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    location = f" in {frame.tb_frame.f_globals.get('__name__', '?')}, line {frame.tb_lineno}" if frame else ""
    return f"internal error in StrokeSeg: {type(error).__name__}{location}"


_FIELD_ERRORS = {"extra_forbidden": "there is no such entry", "missing": "this entry is missing"}


def describe_field_error(detail: Mapping[str, Any]) -> str:
    """Describe what is wrong with an entry of a file or request.

    Parameters
    ----------
    detail : mapping of str to object
        One of the errors of a pydantic ValidationError.

    Returns
    -------
    str
        Such as "there is no such entry"; for other errors the message of pydantic or of the validator.
    """
    return _FIELD_ERRORS.get(detail["type"]) or str(detail["msg"]).removeprefix("Value error, ")
