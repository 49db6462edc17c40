"""Find the studies in the inputs: files, folders and URLs, by one rule (docs/batch.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from strokeseg.batch import remote_storage
from strokeseg.batch.records import NOT_FETCHED, BatchStudy, Failure, StudyRecord, explain_invalid_id, record_failure
from strokeseg.errors import EmptyInput, InputError, StrokesegError, UnreadableFile
from strokeseg.library_output import silence_libraries
from strokeseg.reading import input_file
from strokeseg.reading.dicom import header_reader
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.pictures import picture_stack
from strokeseg.reading.volumes import volume_file

_COMPOUND_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".nii.gz", ".raw.gz")


def find_studies(source: str) -> Iterator[BatchStudy | StudyRecord]:
    """Find the studies of one input: a file, or the contents of a folder or URL.

    Parameters
    ----------
    source : str
        File, folder or URL.

    Yields
    ------
    BatchStudy or StudyRecord
        Each study, or a failure if the input cannot be read.
    """
    if remote_storage.is_url(source):
        yield from _find_in_storage(source)
        return
    path = Path(os.path.abspath(Path(source).expanduser()))
    try:
        if path.is_dir():
            yield from _find_in_folder(path)
        else:
            yield BatchStudy(make_study_id(path.name), str(path), compute_fingerprint(path))
    except InputError as error:
        yield record_refusal(make_study_id(path.name), str(path), error)


def record_refusal(study_id: str, path: str, error: StrokesegError) -> StudyRecord:
    """Return the failure of an input that cannot be started."""
    return record_failure(BatchStudy(study_id, path, ""), "", Failure.from_error(error))


def compute_fingerprint(path: Path, files: Sequence[str] = ()) -> str:
    """Compute a text that changes with a file, or with any file of a folder, from sizes and times.

    Parameters
    ----------
    path : Path
        File or folder.
    files : sequence of str, default: ()
        Files of the folder that count, relative to it; all if empty.

    Returns
    -------
    str
        The fingerprint; "missing" if the file or folder does not exist or cannot be read.
    """
    try:
        if not path.is_dir():
            return _compute_file_fingerprint(path)
        names = files or [file.name for file in input_file.list_folder(path)]
        return ";".join(f"{name}:{_compute_file_fingerprint(path / name)}" for name in names)
    except (OSError, InputError):
        return "missing"


def _compute_file_fingerprint(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def make_study_id(file_name: str) -> str:
    """Make an id from a file name: without its ending, and with "_" for characters that do not suit a folder name."""
    compound = next((ending for ending in _COMPOUND_SUFFIXES if file_name.lower().endswith(ending)), None)
    ending = compound or PurePosixPath(file_name).suffix
    is_known = ending.lower() in (
        *_COMPOUND_SUFFIXES,
        *volume_file.ENDINGS,
        *picture_stack.ENDINGS,
        ".dcm",
        ".ima",
        ".dicom",
    )
    has_ending = ending and (is_known or input_file.has_archive_name(file_name))
    stem = file_name[: -len(ending)] if has_ending else file_name
    study_id = re.sub(r"[^\w.-]", "_", stem)[:120].rstrip(".")
    return study_id if explain_invalid_id(study_id) is None else f"study_{study_id}"[:120]


def _find_in_folder(root: Path) -> Iterator[BatchStudy | StudyRecord]:
    """Find the studies of a folder: archives and volumes, then DICOM files grouped by study, then picture stacks."""
    single_files: list[str] = []
    files_by_uid: dict[str, list[str]] = {}
    stacks: dict[str, list[str]] = {}
    for folder, names in _walk_folders(root):
        single = [
            name for name in names if input_file.has_archive_name(name) or name.lower().endswith(volume_file.ENDINGS)
        ]
        single_files += [_join(folder, name) for name in single]
        uids = {name: uid for name in names if _may_be_dicom(name) and (uid := _read_study_uid(root / folder / name))}
        for name, uid in uids.items():
            files_by_uid.setdefault(uid, []).append(_join(folder, name))
        stack = [_join(folder, name) for name in names if name.lower().endswith(picture_stack.ENDINGS)]
        if stack and not uids and not any(name.lower().endswith(volume_file.ENDINGS) for name in single):
            stacks[folder] = stack
    if not (single_files or files_by_uid or stacks):
        error = EmptyInput(f"{root.name}: contains no archive, DICOM file, volume or picture")
        yield record_refusal(make_study_id(root.name), str(root), error)
    for file in single_files:
        yield BatchStudy(make_study_id(file), str(root / file), compute_fingerprint(root / file))
    folders = [os.path.commonpath([os.path.dirname(file) for file in files]) for files in files_by_uid.values()]
    for (uid, files), folder in zip(files_by_uid.items(), folders, strict=True):
        is_shared = _has_other_studies(folder, folders, [*single_files, *stacks])
        yield _make_grouped_study(root, folder, files, uid, is_shared=is_shared)
    for folder, files in stacks.items():
        others = [other for other in [*stacks, *folders] if other != folder]
        is_shared = any(_is_below(other, folder) for other in [*others, *single_files])
        yield _make_grouped_study(root, folder, files, "", is_shared=is_shared)


def _make_grouped_study(root: Path, folder: str, files: list[str], uid: str, *, is_shared: bool) -> BatchStudy:
    """Return the study of some files: the whole folder, or the listed files if other studies share the folder."""
    path = root / folder
    study_id = make_study_id(folder or root.name) if folder else make_study_id(f"{root.name}/")
    if not is_shared:
        return BatchStudy(study_id.rstrip("_"), str(path), compute_fingerprint(path))
    own_files = tuple(sorted(os.path.relpath(file, folder or ".") for file in files))
    if uid:
        study_id = make_study_id(f"{study_id}_{uid}")
    return BatchStudy(study_id, str(path), compute_fingerprint(path, own_files), files=own_files)


def _has_other_studies(folder: str, folders: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether a folder also holds files of another study."""
    return sum(_is_below(other, folder) for other in folders) > 1 or any(_is_below(other, folder) for other in others)


def _is_below(path: str, folder: str) -> bool:
    return folder in ("", path) or path.startswith(f"{folder}/")


def _walk_folders(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below the root ("" for the root) and the names of its files, sorted by name.

    Links in the root are followed, because its owner made them. Deeper links are not: they may come from anyone.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        files, subfolders = [], []
        try:
            with os.scandir(root / folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if input_file.is_system_file(entry.name) or entry.name.startswith("."):
                        continue
                    follow = not folder
                    if entry.is_dir(follow_symlinks=follow):
                        subfolders.append(_join(folder, entry.name))
                    elif entry.is_file(follow_symlinks=follow):
                        files.append(entry.name)
        except OSError as error:
            message = f"{(root / folder).name}: the folder cannot be listed: {error.strerror or error}"
            raise UnreadableFile(message, "Check its permissions.") from None
        yield folder, files
        folders += reversed(subfolders)


def _join(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file


def _may_be_dicom(file: str) -> bool:
    other_endings = (*volume_file.ENDINGS, *volume_file.DETACHED_DATA_ENDINGS, *picture_stack.ENDINGS)
    return (
        not input_file.has_archive_name(file)
        and not file.lower().endswith(other_endings)
        and file.upper() != "DICOMDIR"
    )


def _read_study_uid(path: Path) -> str | None:
    """Return the study UID of a DICOM file, its series UID if it has none, or None if the file is not DICOM."""
    file = InputFile(path.name, path=path)
    try:
        with silence_libraries():
            headers = header_reader.read_headers(file)
    except InputError:  # damaged DICOM: it belongs to its series, which is then refused
        return header_reader.find_series_uid(file) or None
    if not headers:
        return None
    return str(headers[0].source_elements.get("StudyInstanceUID", "")) or headers[0].series_uid or None


def _find_in_storage(url: str) -> Iterator[BatchStudy | StudyRecord]:
    """Find the studies below a URL: each archive and volume, and each folder of other files."""
    try:
        fingerprints = remote_storage.list_files(url)
    except remote_storage.FetchError as error:
        yield record_failure(BatchStudy(make_study_id(PurePosixPath(url).name), url, ""), "", make_fetch_failure(error))
        return
    base = url.rstrip("/")
    if list(fingerprints) == [base]:
        yield BatchStudy(make_study_id(PurePosixPath(base).name), base, fingerprints[base])
        return
    folders: dict[str, dict[str, str]] = {}
    for file, fingerprint in fingerprints.items():
        folder, _, name = file.rpartition("/")
        if input_file.has_archive_name(name) or name.lower().endswith(volume_file.ENDINGS):
            yield BatchStudy(make_study_id(_make_relative(file, base)), file, fingerprint)
        elif not input_file.is_system_file(name) and not name.lower().endswith(volume_file.DETACHED_DATA_ENDINGS):
            folders.setdefault(folder, {})[name] = fingerprint
    for folder, files in folders.items():
        joined = ";".join(f"{name}:{fingerprint}" for name, fingerprint in sorted(files.items()))
        yield BatchStudy(make_study_id(_make_relative(folder, base)), folder, joined, files=tuple(sorted(files)))


def _make_relative(url: str, base: str) -> str:
    return url[len(base) :].strip("/") or PurePosixPath(base).name


def make_fetch_failure(error: remote_storage.FetchError) -> Failure:
    """Return the failure of a study that could not be fetched."""
    remedy = "Check the address and the permissions, then run the same command again: it retries the study."
    return Failure(code=NOT_FETCHED, message=str(error), remedy=remedy)
