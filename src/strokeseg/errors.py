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
    ├── TrainError                    train: a training or evaluation set cannot be used (exit code 3)
    │   └── Leakage                   leakage
    └── ServiceError                  the web application and the node
        ├── Unauthorized              unauthorized
        ├── NotFound                  not-found
        ├── Conflict                  conflict
        ├── Busy                      busy
        └── NotDelivered              not-delivered

Each carries a stable ``code``, a sentence that names the file or field and what was found, and a ``remedy``. The
sentences hold no patient data. The command line, the REST interface and the logs use the same codes.
"""


class StrokesegError(Exception):
    """The root of the tree.

    Parameters
    ----------
    message : str
        One sentence: which file or field, what was found, what was expected.
    remedy : str, optional
        One sentence: what the user can do; the class has a general one for when none is given.
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
    """A file is missing, damaged, or of no known format."""

    code = "unreadable"
    default_remedy = "Give a DICOM folder, zip or file, a NIfTI, NRRD or MetaImage file, or pictures."


class UnsupportedTransferSyntax(InputError):
    """The pixel data are compressed in a way that no installed decoder knows."""

    code = "transfer-syntax"
    default_remedy = "Decompress the series first, for example with dcmdjpeg or gdcmconv --raw."


class NotCT(InputError):
    """The image is of another modality."""

    code = "not-ct"
    default_remedy = "Give a non-contrast CT of the head."


class NotHead(InputError):
    """The pixels do not show a head."""

    code = "not-head"
    default_remedy = "Give an axial CT of the head; nothing else can be answered."


class NoHounsfield(InputError):
    """The values cannot be Hounsfield units and no rescale says how to get them."""

    code = "no-hounsfield"
    default_remedy = "Export it again with rescale slope and intercept, or give it as pictures with --window."


class SeveralSeries(InputError):
    """More than one head CT series is there and none stands out."""

    code = "several-series"
    default_remedy = "Name one of them with --series."


class EmptyInput(InputError):
    """There is nothing to read."""

    code = "empty"
    default_remedy = "Give a path that holds a head CT."


class InconsistentGeometry(InputError):
    """The slices do not fit together into one volume."""

    code = "geometry"
    default_remedy = "Give one series alone, as it was acquired."


class DifferentPatients(InputError):
    """Two scans to compare are, by their headers or their skulls, not of one head."""

    code = "different-patients"
    default_remedy = "Give two scans of one patient; --same-patient compares them where you know that they are."


class TooLarge(InputError):
    """The input is beyond the stated bounds."""

    code = "too-large"
    default_remedy = "Give one head series; bounds are listed by `strokeseg doctor`."


class UnsafeArchive(InputError):
    """An archive tries to escape its folder, or unpacks to far more than it holds."""

    code = "unsafe-archive"
    default_remedy = "Unpack the archive yourself, look at it, and give the folder."


class UsageError(StrokesegError):
    """An argument is outside of what it can be."""

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
    """The model's bytes are not the ones its card was written for."""

    code = "model-checksum"
    default_remedy = "Install StrokeSeg again; `strokeseg models verify` checks every file."


class EngineMissing(ModelError):
    """The inference engine that was asked for is not installed."""

    code = "engine-missing"
    default_remedy = "Use --engine auto, or install the engine; `strokeseg doctor` lists what is there."


class OutputError(StrokesegError):
    """The results cannot be written."""

    code = "output"


class DiskFull(OutputError):
    """No space is left."""

    code = "disk-full"
    default_remedy = "Free space or give another output folder; nothing was left half-written."


class NotWritable(OutputError):
    """The output folder cannot be written."""

    code = "not-writable"
    default_remedy = "Give a folder that you may write with -o."


class TrainError(StrokesegError):
    """A training configuration or an evaluation set cannot be used."""

    code = "train"
    default_remedy = "Mend the configuration or the data folder that the sentence names."


class Leakage(TrainError):
    """Images to validate or test on are, or nearly are, among those that were trained on."""

    code = "leakage"
    default_remedy = "Leave these images out; `strokeseg train CONFIG --write-split FILE` does so for a split."


class ServiceError(StrokesegError):
    """The web application or the node refuses a request."""

    code = "service"


class Unauthorized(ServiceError):
    """No valid token, or not enough scope."""

    code = "unauthorized"


class NotFound(ServiceError):
    """No such study or file."""

    code = "not-found"


class Conflict(ServiceError):
    """The request contradicts what is stored."""

    code = "conflict"


class Busy(ServiceError):
    """Too much work is waiting."""

    code = "busy"


class NotDelivered(ServiceError):
    """What should go out to another system did not; it may later."""

    code = "not-delivered"
    default_remedy = "`strokeseg node --check` says which peer does not answer, and why."


def describe_fault(error: BaseException) -> str:
    """Describe an unexpected exception by its type and place, for it is a fault of StrokeSeg.

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
    place = f" in {frame.tb_frame.f_globals.get('__name__', '?')}, line {frame.tb_lineno}" if frame else ""
    return f"internal error in StrokeSeg: {type(error).__name__}{place}"
