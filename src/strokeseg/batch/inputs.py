"""What of the inputs is a study: files, folders and URLs, by one rule (docs/batch.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from strokeseg.batch import remote_storage
from strokeseg.batch.records import NOT_FETCHED, BatchStudy, Failure, StudyRecord, explain_invalid_id, record_failure
from strokeseg.errors import EmptyInput, InputError, StrokesegError, UnreadableFile
from strokeseg.reading import input_file
from strokeseg.reading.dicom import header
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.library_output import silence_libraries
from strokeseg.reading.pictures import picture_stack
from strokeseg.reading.volumes import volume_file

_COMPOUND_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".nii.gz", ".raw.gz")


def find_studies(source: str) -> Iterator[BatchStudy | StudyRecord]:
    """Find the studies of one input: of a file itself, of a folder or a URL what lies in it.

    Gives a failure in a study's place where an input cannot be looked into.
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


def record_refusal(id_: str, path: str, error: StrokesegError) -> StudyRecord:
    """Say that an input is no study that could be begun."""
    return record_failure(BatchStudy(id_, path, ""), "", Failure.from_error(error))


def compute_fingerprint(path: Path, files: Sequence[str] = ()) -> str:
    """Return what changes when a file, or one of a folder's files, does: sizes and times; "missing" without it.

    Parameters
    ----------
    files : sequence of str, default: ()
        Those of a folder that count, relative to it; all where none are named.
    """
    try:
        if not path.is_dir():
            return _compute_file_fingerprint(path)
        names = files or [member.name for member in input_file.list_folder(path)]
        return ";".join(f"{each}:{_compute_file_fingerprint(path / each)}" for each in names)
    except (OSError, InputError):
        return "missing"


def _compute_file_fingerprint(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def make_study_id(file: str) -> str:
    """Make an id of a file's name: without its ending, and with _ for what no folder should be named."""
    ending = next((each for each in _COMPOUND_SUFFIXES if file.lower().endswith(each)), PurePosixPath(file).suffix)
    known = ending.lower() in (
        *_COMPOUND_SUFFIXES,
        *volume_file.ENDINGS,
        *picture_stack.ENDINGS,
        ".dcm",
        ".ima",
        ".dicom",
    )
    stem = file[: -len(ending)] if ending and (known or input_file.has_archive_name(file)) else file
    plain = re.sub(r"[^\w.-]", "_", stem)[:120].rstrip(".")
    return plain if explain_invalid_id(plain) is None else f"study_{plain}"[:120]


def _find_in_folder(root: Path) -> Iterator[BatchStudy | StudyRecord]:
    """Walk a folder once: archives and volumes as they come, then DICOM files by their study, then pictures."""
    alone: list[str] = []
    by_uid: dict[str, list[str]] = {}
    stacks: dict[str, list[str]] = {}
    for folder, files in _walk_folders(root):
        whole = [
            each for each in files if input_file.has_archive_name(each) or each.lower().endswith(volume_file.ENDINGS)
        ]
        alone += [_join(folder, each) for each in whole]
        uids = {each: uid for each in files if _may_be_dicom(each) and (uid := _read_study_uid(root / folder / each))}
        for each, uid in uids.items():
            by_uid.setdefault(uid, []).append(_join(folder, each))
        stack = [_join(folder, each) for each in files if each.lower().endswith(picture_stack.ENDINGS)]
        if stack and not uids and not any(each.lower().endswith(volume_file.ENDINGS) for each in whole):
            stacks[folder] = stack
    found = len(alone) + len(by_uid) + len(stacks)
    if not found:
        yield record_refusal(
            make_study_id(root.name), str(root), EmptyInput(f"{root.name}: no archive, DICOM, volume or picture in it")
        )
    for each in alone:
        yield BatchStudy(make_study_id(each), str(root / each), compute_fingerprint(root / each))
    folders = [os.path.commonpath([os.path.dirname(each) for each in files]) for files in by_uid.values()]
    for (uid, files), folder in zip(by_uid.items(), folders, strict=True):
        yield _make_grouped_study(
            root, folder, files, uid, shared=_has_other_studies(folder, folders, [*alone, *stacks])
        )
    for folder, files in stacks.items():
        inside = any(_is_below(other, folder) for other in [*stacks, *folders] if other != folder)
        yield _make_grouped_study(
            root, folder, files, "", shared=inside or any(_is_below(each, folder) for each in alone)
        )


def _make_grouped_study(root: Path, folder: str, files: list[str], uid: str, *, shared: bool) -> BatchStudy:
    """Return the study of some files: their folder, if it is all theirs, else the folder and which of its files."""
    place = root / folder
    plain = make_study_id(folder or root.name) if folder else make_study_id(f"{root.name}/")
    if not shared:
        return BatchStudy(plain.rstrip("_"), str(place), compute_fingerprint(place))
    own = tuple(sorted(os.path.relpath(each, folder or ".") for each in files))
    return BatchStudy(
        make_study_id(f"{plain}_{uid}") if uid else plain, str(place), compute_fingerprint(place, own), files=own
    )


def _has_other_studies(folder: str, folders: Sequence[str], others: Sequence[str]) -> bool:
    """Whether a folder holds also what belongs to another study."""
    return sum(_is_below(other, folder) for other in folders) > 1 or any(_is_below(other, folder) for other in others)


def _is_below(path: str, folder: str) -> bool:
    return folder in ("", path) or path.startswith(f"{folder}/")


def _walk_folders(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Return each folder below, "" the root itself, and the names of its files, in the order of their names.

    Links are followed where they lie in the root, which its owner has filled; deeper ones may come from anyone.
    """
    places = [""]
    while places:
        place = places.pop()
        files, folders = [], []
        try:
            with os.scandir(root / place) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if input_file.is_system_file(entry.name) or entry.name.startswith("."):
                        continue
                    follow = not place
                    if entry.is_dir(follow_symlinks=follow):
                        folders.append(_join(place, entry.name))
                    elif entry.is_file(follow_symlinks=follow):
                        files.append(entry.name)
        except OSError as error:
            said = f"{(root / place).name}: the folder cannot be listed: {error.strerror or error}"
            raise UnreadableFile(said, "Check its permissions.") from None
        yield place, files
        places += reversed(folders)


def _join(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file


def _may_be_dicom(file: str) -> bool:
    others = (*volume_file.ENDINGS, *volume_file.DETACHED_DATA_ENDINGS, *picture_stack.ENDINGS)
    return not input_file.has_archive_name(file) and not file.lower().endswith(others) and file.upper() != "DICOMDIR"


def _read_study_uid(path: Path) -> str | None:
    """Return the study that a DICOM file names, or its series where it names none; None for what is no DICOM."""
    member = InputFile(path.name, path=path)
    try:
        with silence_libraries():
            found = header.read_headers(member)
    except InputError:  # it says that it is DICOM and is damaged: it counts to its series, which is then refused
        return header.find_series_uid(member) or None
    if not found:
        return None
    return str(found[0].source_elements.get("StudyInstanceUID", "")) or found[0].series_uid or None


def _find_in_storage(url: str) -> Iterator[BatchStudy | StudyRecord]:
    """Find the studies below a URL: each archive and volume, and each folder of other files."""
    try:
        files = remote_storage.list_files(url)
    except remote_storage.FetchError as error:
        yield record_failure(BatchStudy(make_study_id(PurePosixPath(url).name), url, ""), "", make_fetch_failure(error))
        return
    base = url.rstrip("/")
    if list(files) == [base]:
        yield BatchStudy(make_study_id(PurePosixPath(base).name), base, files[base])
        return
    folders: dict[str, dict[str, str]] = {}
    for file, mark in files.items():
        folder, _, own = file.rpartition("/")
        if input_file.has_archive_name(own) or own.lower().endswith(volume_file.ENDINGS):
            yield BatchStudy(make_study_id(_make_relative(file, base)), file, mark)
        elif not input_file.is_system_file(own) and not own.lower().endswith(volume_file.DETACHED_DATA_ENDINGS):
            folders.setdefault(folder, {})[own] = mark
    for folder, marks in folders.items():
        together = ";".join(f"{own}:{mark}" for own, mark in sorted(marks.items()))
        yield BatchStudy(make_study_id(_make_relative(folder, base)), folder, together, files=tuple(sorted(marks)))


def _make_relative(url: str, base: str) -> str:
    return url[len(base) :].strip("/") or PurePosixPath(base).name


def make_fetch_failure(error: remote_storage.FetchError) -> Failure:
    """Say that a study could not be brought to this machine."""
    remedy = "Check the address and the permissions, then give the same command again: it tries it once more."
    return Failure(code=NOT_FETCHED, message=str(error), remedy=remedy)
