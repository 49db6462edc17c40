"""What of the inputs is a study: files, folders and URLs, by one rule (docs/batch.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from strokeseg.batch import remote
from strokeseg.batch.study import NOT_FETCHED, Failure, Record, Study, check_id, failed
from strokeseg.errors import EmptyInput, InputError, StrokesegError, UnreadableFile
from strokeseg.read import archive, header, pictures, volumes
from strokeseg.read.archive import Member
from strokeseg.read.quiet import quiet

_ENDINGS = (".tar.gz", ".tar.bz2", ".tar.xz", ".nii.gz", ".raw.gz")


def studies(source: str) -> Iterator[Study | Record]:
    """Find the studies of one input: of a file itself, of a folder or a URL what lies in it.

    Gives a failure in a study's place where an input cannot be looked into.
    """
    if remote.is_url(source):
        yield from _of_store(source)
        return
    path = Path(os.path.abspath(Path(source).expanduser()))
    try:
        if path.is_dir():
            yield from _of_folder(path)
        else:
            yield Study(name(path.name), str(path), stamp(path))
    except InputError as error:
        yield refused(name(path.name), str(path), error)


def refused(id_: str, path: str, error: StrokesegError) -> Record:
    """Say that an input is no study that could be begun."""
    return failed(Study(id_, path, ""), "", Failure.of(error))


def stamp(path: Path, files: Sequence[str] = ()) -> str:
    """Give what changes when a file, or one of a folder's files, does: sizes and times; "missing" without it.

    Parameters
    ----------
    files : those of a folder that count, relative to it; all where none are named
    """
    try:
        if not path.is_dir():
            return _mark(path)
        names = files or [member.name for member in archive.from_folder(path)]
        return ";".join(f"{each}:{_mark(path / each)}" for each in names)
    except (OSError, InputError):
        return "missing"


def _mark(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"


def name(file: str) -> str:
    """Make an id of a file's name: without its ending, and with _ for what no folder should be named."""
    ending = next((each for each in _ENDINGS if file.lower().endswith(each)), PurePosixPath(file).suffix)
    known = ending.lower() in (*_ENDINGS, *volumes.ENDINGS, *pictures.ENDINGS, ".dcm", ".ima", ".dicom")
    stem = file[: -len(ending)] if ending and (known or archive.is_archive(file)) else file
    plain = re.sub(r"[^\w.-]", "_", stem)[:120].rstrip(".")
    return plain if check_id(plain) is None else f"study_{plain}"[:120]


def _of_folder(root: Path) -> Iterator[Study | Record]:
    """Walk a folder once: archives and volumes as they come, then DICOM files by their study, then pictures."""
    alone: list[str] = []
    by_uid: dict[str, list[str]] = {}
    stacks: dict[str, list[str]] = {}
    for folder, files in _walk(root):
        whole = [each for each in files if archive.is_archive(each) or each.lower().endswith(volumes.ENDINGS)]
        alone += [_joined(folder, each) for each in whole]
        uids = {each: uid for each in files if _may_be_dicom(each) and (uid := _uid(root / folder / each))}
        for each, uid in uids.items():
            by_uid.setdefault(uid, []).append(_joined(folder, each))
        stack = [_joined(folder, each) for each in files if each.lower().endswith(pictures.ENDINGS)]
        if stack and not uids and not any(each.lower().endswith(volumes.ENDINGS) for each in whole):
            stacks[folder] = stack
    found = len(alone) + len(by_uid) + len(stacks)
    if not found:
        yield refused(
            name(root.name), str(root), EmptyInput(f"{root.name}: no archive, DICOM, volume or picture in it")
        )
    for each in alone:
        yield Study(name(each), str(root / each), stamp(root / each))
    folders = [os.path.commonpath([os.path.dirname(each) for each in files]) for files in by_uid.values()]
    for (uid, files), folder in zip(by_uid.items(), folders, strict=True):
        yield _grouped(root, folder, files, uid, shared=_overlaps(folder, folders, [*alone, *stacks]))
    for folder, files in stacks.items():
        inside = any(_below(other, folder) for other in [*stacks, *folders] if other != folder)
        yield _grouped(root, folder, files, "", shared=inside or any(_below(each, folder) for each in alone))


def _grouped(root: Path, folder: str, files: list[str], uid: str, *, shared: bool) -> Study:
    """Give the study of some files: their folder, if it is all theirs, else the folder and which of its files."""
    place = root / folder
    plain = name(folder or root.name) if folder else name(f"{root.name}/")
    if not shared:
        return Study(plain.rstrip("_"), str(place), stamp(place))
    own = tuple(sorted(os.path.relpath(each, folder or ".") for each in files))
    return Study(name(f"{plain}_{uid}") if uid else plain, str(place), stamp(place, own), files=own)


def _overlaps(folder: str, folders: Sequence[str], others: Sequence[str]) -> bool:
    """Whether a folder holds also what belongs to another study."""
    return sum(_below(other, folder) for other in folders) > 1 or any(_below(other, folder) for other in others)


def _below(path: str, folder: str) -> bool:
    return folder in ("", path) or path.startswith(f"{folder}/")


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Give each folder below, "" the root itself, and the names of its files, in the order of their names.

    Links are followed where they lie in the root, which its owner has filled; deeper ones may come from anyone.
    """
    places = [""]
    while places:
        place = places.pop()
        files, folders = [], []
        try:
            with os.scandir(root / place) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if archive.is_litter(entry.name) or entry.name.startswith("."):
                        continue
                    follow = not place
                    if entry.is_dir(follow_symlinks=follow):
                        folders.append(_joined(place, entry.name))
                    elif entry.is_file(follow_symlinks=follow):
                        files.append(entry.name)
        except OSError as error:
            said = f"{(root / place).name}: the folder cannot be listed: {error.strerror or error}"
            raise UnreadableFile(said, "Check its permissions.") from None
        yield place, files
        places += reversed(folders)


def _joined(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file


def _may_be_dicom(file: str) -> bool:
    others = (*volumes.ENDINGS, *volumes.VOXELS_BESIDE, *pictures.ENDINGS)
    return not archive.is_archive(file) and not file.lower().endswith(others) and file.upper() != "DICOMDIR"


def _uid(path: Path) -> str | None:
    """Give the study that a DICOM file names, or its series where it names none; None for what is no DICOM."""
    member = Member(path.name, path=path)
    try:
        with quiet():
            found = header.read(member)
    except InputError:  # it says that it is DICOM and is damaged: it counts to its series, which is then refused
        return header.series_of(member) or None
    if not found:
        return None
    return str(found[0].owner.get("StudyInstanceUID", "")) or found[0].series_uid or None


def _of_store(url: str) -> Iterator[Study | Record]:
    """Find the studies below a URL: each archive and volume, and each folder of other files."""
    try:
        files = remote.listed(url)
    except remote.NotFetchedError as error:
        yield failed(Study(name(PurePosixPath(url).name), url, ""), "", not_fetched(error))
        return
    base = url.rstrip("/")
    if list(files) == [base]:
        yield Study(name(PurePosixPath(base).name), base, files[base])
        return
    folders: dict[str, dict[str, str]] = {}
    for file, mark in files.items():
        folder, _, own = file.rpartition("/")
        if archive.is_archive(own) or own.lower().endswith(volumes.ENDINGS):
            yield Study(name(_relative(file, base)), file, mark)
        elif not archive.is_litter(own) and not own.lower().endswith(volumes.VOXELS_BESIDE):
            folders.setdefault(folder, {})[own] = mark
    for folder, marks in folders.items():
        together = ";".join(f"{own}:{mark}" for own, mark in sorted(marks.items()))
        yield Study(name(_relative(folder, base)), folder, together, files=tuple(sorted(marks)))


def _relative(url: str, base: str) -> str:
    return url[len(base) :].strip("/") or PurePosixPath(base).name


def not_fetched(error: remote.NotFetchedError) -> Failure:
    """Say that a study could not be brought to this machine."""
    remedy = "Check the address and the permissions, then give the same command again: it tries it once more."
    return Failure(code=NOT_FETCHED, message=str(error), remedy=remedy)
