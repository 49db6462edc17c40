"""Studies in remote storage such as S3: fsspec lists them and fetches them while they are read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from strokeseg.batch.records import BatchStudy
from strokeseg.batch.temporary_folders import provide_folder
from strokeseg.errors import UsageError

_VERSION_KEYS = ("ETag", "etag", "md5Hash", "checksum", "LastModified", "last_modified", "updated", "mtime", "created")


class FetchError(Exception):
    """A study could not be fetched to this machine; the message gives the reason in our words."""


def is_url(path: str) -> bool:
    """Return whether a path is a URL such as "s3://bucket/key", and not one with a Windows drive letter."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and len(scheme) > 1


def open_filesystem(url: str) -> tuple[Any, str]:
    """Open the file system of a URL.

    Parameters
    ----------
    url : str
        Such as "s3://bucket/key".

    Returns
    -------
    fsspec.AbstractFileSystem, str
        The file system, and the path in it.

    Raises
    ------
    UsageError
        `usage`, if fsspec or a package for this kind of URL is not installed.
    """
    scheme = url.partition("://")[0]
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError:
        raise UsageError(
            f"{scheme}:// needs packages that are not installed", "pip install 'strokeseg[batch]'"
        ) from None
    except ValueError:
        raise UsageError(f"{scheme}:// is an unknown kind of URL", "Give s3://BUCKET/KEY.") from None


def list_files(url: str) -> dict[str, str]:
    """List the files below a URL at any depth, each with its fingerprint; a single file lists itself.

    Parameters
    ----------
    url : str
        URL of a file or folder.

    Returns
    -------
    dict of str to str
        Fingerprint of each file by its URL.

    Raises
    ------
    FetchError
        If the storage does not answer, or nothing exists at the URL.
    UsageError
        As :func:`open_filesystem`.
    """
    filesystem, path = open_filesystem(url)
    try:
        filesystem.invalidate_cache()  # an earlier listing may be out of date
        info = _read_file_info(filesystem, path)
        files = {path: info} if info else filesystem.find(path, detail=True)
    except Exception as error:  # each storage raises its own kinds
        raise FetchError(f"{url}: the storage cannot list it ({type(error).__name__})") from None
    if not files:
        raise FetchError(f"{url}: nothing exists there")
    return {filesystem.unstrip_protocol(name): _compute_file_fingerprint(info) for name, info in sorted(files.items())}


def compute_fingerprint(url: str) -> str:
    """Compute a text that changes with the file, or with any file below the URL; errors as :func:`list_files`."""
    return ";".join(f"{name}:{fingerprint}" for name, fingerprint in list_files(url).items())


@contextmanager
def fetch_study(study: BatchStudy, scratch: Path | None) -> Iterator[Path]:
    """Yield the path of a study on this machine; fetched files exist only inside the block.

    Parameters
    ----------
    study : BatchStudy
        The study.
    scratch : Path or None
        Folder for fetched files; None is the system's temporary folder.

    Yields
    ------
    Path
        File or folder on this machine.

    Raises
    ------
    FetchError
        If the study cannot be fetched.
    """
    is_remote = is_url(study.path)
    if not is_remote and not study.files:
        yield Path(study.path)
        return
    with provide_folder() if scratch is None else _create_folder(scratch) as folder:
        try:
            local_path = _download(study, folder) if is_remote else _copy_listed_files(study, folder)
        except OSError as error:
            raise FetchError(f"{study.path}: {error.strerror or type(error).__name__}") from None
        yield local_path


@contextmanager
def _create_folder(parent: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def _download(study: BatchStudy, folder: Path) -> Path:
    filesystem, path = open_filesystem(study.path)
    target = folder / (PurePosixPath(path).name or "study")
    try:
        if not study.files and _read_file_info(filesystem, path):
            filesystem.get_file(path, str(target))
        else:
            target.mkdir()
            names = study.files or [name[len(path) :].lstrip("/") for name in filesystem.find(path)]
            for name in names:
                if ".." in PurePosixPath(name).parts or "\\" in name:  # such a name may lead out of the folder
                    raise FetchError(f"{study.path}: contains {name[:80]!r}, which is not a valid file name")
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                filesystem.get_file(f"{path.rstrip('/')}/{name}", str(target / name))
    except (OSError, FetchError):
        raise
    except Exception as error:  # each storage raises its own kinds
        raise FetchError(f"{study.path}: cannot be fetched from the storage ({type(error).__name__})") from None
    return target


def _read_file_info(filesystem: Any, path: str) -> dict[str, Any] | None:
    """Return what the storage reports about a file, or None for a folder."""
    try:
        info = filesystem.info(path)
    except FileNotFoundError:  # some storage does not know a folder as an object
        return None
    return dict(info) if info.get("type") == "file" else None


def _copy_listed_files(study: BatchStudy, folder: Path) -> Path:
    target = folder / (Path(study.path).name or "study")
    for name in study.files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(study.path) / name, target / name)
    return target


def _compute_file_fingerprint(info: dict[str, Any]) -> str:
    versions = [str(info[name]) for name in _VERSION_KEYS if info.get(name)]
    return f"{info.get('size')}:{versions[0] if versions else ''}"
