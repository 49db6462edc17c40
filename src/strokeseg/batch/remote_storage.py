"""Studies that lie in a store, as S3: listed by fsspec, fetched for as long as they are read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from strokeseg.batch.records import BatchStudy
from strokeseg.errors import UsageError

_VERSION_KEYS = ("ETag", "etag", "md5Hash", "checksum", "LastModified", "last_modified", "updated", "mtime", "created")


class FetchError(Exception):
    """A study could not be brought to this machine; the sentence says why, in our words."""


def is_url(path: str) -> bool:
    """Whether a path names a store: "s3://bucket/key", not a letter of a Windows drive."""
    scheme, found, _ = path.partition("://")
    return bool(found) and len(scheme) > 1


def open_filesystem(url: str) -> tuple[Any, str]:
    """Return the store that a URL names, and the path in it.

    Raises
    ------
    UsageError
        `usage`, if fsspec or what it needs for this kind of URL is not installed.
    """
    try:
        import fsspec

        return fsspec.core.url_to_fs(url)
    except ImportError:
        kind = url.partition("://")[0]
        raise UsageError(f"{kind}:// needs packages that are not installed", "pip install 'strokeseg[batch]'") from None
    except ValueError:
        raise UsageError(f"{url.partition('://')[0]}:// is no known kind of URL", "Give s3://BUCKET/KEY.") from None


def list_files(url: str) -> dict[str, str]:
    """List the files below a URL, at any depth, each with its stamp; a file alone is listed as itself.

    Raises
    ------
    NotFetchedError
        If the store does not answer, or nothing is there.
    UsageError
        As :func:`system`.
    """
    store, path = open_filesystem(url)
    try:
        store.invalidate_cache()  # what was listed before may have changed
        own = _read_file_info(store, path)
        found = {path: own} if own else store.find(path, detail=True)
    except Exception as error:  # each store has its own
        raise FetchError(f"{url}: the store does not list it ({type(error).__name__})") from None
    if not found:
        raise FetchError(f"{url}: nothing is there")
    return {store.unstrip_protocol(name): _compute_file_fingerprint(info) for name, info in sorted(found.items())}


def compute_fingerprint(url: str) -> str:
    """Return what changes when what lies at a URL does: of a file, or of all files below; raises as :func:`listed`."""
    return ";".join(f"{name}:{mark}" for name, mark in list_files(url).items())


@contextmanager
def fetch_study(study: BatchStudy, scratch: Path | None) -> Iterator[Path]:
    """Return a study's path on this machine; what must be brought here lies there only inside of the block.

    Parameters
    ----------
    scratch : Path or None
        Folder for it; None is the system's for temporary files.

    Raises
    ------
    NotFetchedError
        If it cannot be brought here.
    """
    remote = is_url(study.path)
    if not remote and not study.files:
        yield Path(study.path)
        return
    with tempfile.TemporaryDirectory(prefix="strokeseg-batch-", dir=scratch) as folder:
        try:
            here = _download(study, Path(folder)) if remote else _copy_listed_files(study, Path(folder))
        except OSError as error:
            raise FetchError(f"{study.path}: {error.strerror or type(error).__name__}") from None
        yield here


def _download(study: BatchStudy, folder: Path) -> Path:
    store, path = open_filesystem(study.path)
    here = folder / (PurePosixPath(path).name or "study")
    try:
        if not study.files and _read_file_info(store, path):
            store.get_file(path, str(here))
        else:
            here.mkdir()
            names = study.files or [name[len(path) :].lstrip("/") for name in store.find(path)]
            for name in names:
                if ".." in PurePosixPath(name).parts or "\\" in name:  # a name in a store may lead out of this folder
                    raise FetchError(f"{study.path}: holds {name[:80]!r}, which is no file's name")
                (here / name).parent.mkdir(parents=True, exist_ok=True)
                store.get_file(f"{path.rstrip('/')}/{name}", str(here / name))
    except (OSError, FetchError):
        raise
    except Exception as error:  # each store has its own
        raise FetchError(f"{study.path}: the store does not give it ({type(error).__name__})") from None
    return here


def _read_file_info(store: Any, path: str) -> dict[str, Any] | None:
    """Return what the store says of a file, None of a folder."""
    try:
        info = store.info(path)
    except FileNotFoundError:  # a prefix of names is no thing of its own in every store
        return None
    return dict(info) if info.get("type") == "file" else None


def _copy_listed_files(study: BatchStudy, folder: Path) -> Path:
    here = folder / (Path(study.path).name or "study")
    for name in study.files:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(study.path) / name, here / name)
    return here


def _compute_file_fingerprint(info: dict[str, Any]) -> str:
    marks = [str(info[name]) for name in _VERSION_KEYS if info.get(name)]
    return f"{info.get('size')}:{marks[0] if marks else ''}"
