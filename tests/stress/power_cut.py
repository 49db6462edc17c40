"""Cut the power after every system call of a program that stores something, and open what a file system may have kept.

    python -m stress power-cut

strace records the writes, syncs, renames and removals. For each moment between two of them, the states that a disk may
be in are replayed into a folder and opened by the code that opens it after a restart. Rules of the disk:

- A file has the content of its last fsync, or after it the whole of what was written since, or the first half.
- A name is created, renamed or removed as a whole. It stays so for certain only once one of its folders was synced.
- What was not synced is kept in the order of each folder: all up to some moment, or one folder up to some moment and of
  the others only what was synced.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

from strokeseg.batch.journal import Journal
from strokeseg.batch.records import ResultRow, StudyRecord
from strokeseg.batch.result_files import compute_digests, find_damaged_files
from strokeseg.outputs.folder import OutputFolder, restore_interrupted

TESTS = Path(__file__).parents[1]
PROMISE = "/strokeseg-promise/"  # a program looks for a file of this name to record what it has promised
CALLS = (
    "openat,write,pwrite64,ftruncate,fsync,fdatasync,"
    "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,access"
)
_LINE = re.compile(r"(?:\d+\s+)?(?P<call>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\d+)")
_ARGUMENT = re.compile(r'"(?P<text>[^"]*)"|(?P<number>-?\d+|AT_FDCWD|[A-Z0-9_|x]+)(?:<(?P<path>[^>]*)>)?')

Operation = namedtuple("Operation", "kind, paths, data", defaults=(b"",))


# What is recorded


def write_result(out, text, names):
    with OutputFolder(out) as folder:
        for name in names:
            (folder.staging / name).write_text(text)
        document = {"schema": "strokeseg.result/1", "files": {name: name for name in names}}
        (folder.staging / "result.json").write_text(json.dumps(document))
        folder.commit([*names, "result.json"], last="result.json")


class Result:
    """A result replaces an earlier one, as `segment` does; one of the two must be there as a whole."""

    def prepare(self, folder):
        write_result(folder / "out", "one", ["mask.nii.gz", "ct.nii.gz"])
        (folder / "out/mine.txt").write_text("a note")

    def act(self, folder, promise):
        write_result(folder / "out", "two", ["mask.nii.gz", "report.html"])
        promise("saved")

    def check(self, folder, promised):
        restore_interrupted(folder / "out", ended=True)
        contents = {path.name: path.read_text() for path in (folder / "out").iterdir()}
        assert contents.pop("mine.txt") == "a note"
        document = json.loads(contents.pop("result.json"))
        assert set(contents) == set(document["files"])
        assert set(contents.values()) == {"two"} or ("saved" not in promised and set(contents.values()) == {"one"})
        write_result(folder / "out", "three", ["mask.nii.gz"])


class Batch:
    """A study of a batch: what the journal lists is whole, and what was added to it is listed."""

    def prepare(self, folder):
        pass

    def act(self, folder, promise):
        with Journal(folder / "out") as journal:
            for study in ("a", "b"):
                write_result(folder / "out" / study, study, ["mask.nii.gz"])
                files = compute_digests(folder / "out" / study, ["mask.nii.gz", "result.json"])
                row = ResultRow(status="accepted")
                journal.add(StudyRecord(id=study, path=study, key="1", finished="", row=row, files=files))
                promise(study)

    def check(self, folder, promised):
        with Journal(folder / "out") as journal:
            assert promised <= set(journal.records)
            for study, record in journal.records.items():
                assert find_damaged_files(folder / "out" / study, record) == []
        for study in ("a", "b"):
            restore_interrupted(folder / "out" / study, ended=True)
            write_result(folder / "out" / study, "again", ["mask.nii.gz"])


class Spool:
    """Instances that the node answered with success; the database, which has its own tests, lies elsewhere."""

    def prepare(self, folder):
        pass

    def act(self, folder, promise):
        from pydicom.dataset import Dataset

        from strokeseg.pacs.database import open_database
        from strokeseg.pacs.spool import ReceivedInstance
        from strokeseg.pacs.spool import Spool as NodeSpool

        with tempfile.TemporaryDirectory() as elsewhere:
            spool = NodeSpool(folder / "node", open_database(f"sqlite:///{elsewhere}/node.db"))
            for uid in ("1.1", "1.2"):
                header = Dataset()
                header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID = uid, "1", "1"
                spool.store(ReceivedInstance(uid.encode() * 100, header, "modality"))
                promise(uid)

    def check(self, folder, promised):
        kept = [path.read_bytes() for path in folder.rglob("*.dcm")]
        assert {uid.encode() * 100 for uid in promised} <= set(kept) <= {b"1.1" * 100, b"1.2" * 100}


class Storage:
    """Files of the web application: the step that put them is recorded as done."""

    def prepare(self, folder):
        pass

    def act(self, folder, promise):
        from strokeseg.web.storage import Storage as WebStorage

        storage = WebStorage(str(folder / "data"))
        for name in ("1", "2"):
            source = folder / name
            source.write_text(name * 50)
            storage.put(source, f"studies/x/{name}/mask.nii.gz")
            promise(name)

    def check(self, folder, promised):
        kept = {path.parent.name: path.read_text() for path in folder.rglob("mask.nii.gz")}
        assert all(text == name * 50 for name, text in kept.items()) and promised <= set(kept)


class Careless:
    """A program that syncs nothing; the recorder must find it out."""

    def prepare(self, folder):
        (folder / "file").write_text("one")

    def act(self, folder, promise):
        (folder / "partial").write_text("two")
        (folder / "partial").replace(folder / "file")
        promise("two")

    def check(self, folder, promised):
        assert (folder / "file").read_text() == "two" or (not promised and (folder / "file").read_text() == "one")


SCENARIOS = {scenario.__name__.lower(): scenario() for scenario in (Result, Batch, Spool, Storage)}


# Recording


def record(name, folder):
    """Run a scenario under strace; return its operations below the folder, in order."""
    trace = folder.parent / "trace"
    code = "import sys; from stress import power_cut; power_cut.act(*sys.argv[1:])"
    command = ["strace", "-f", "-y", "-xx", "-s", "1048576", "-e", f"trace={CALLS}", "-o", trace]
    subprocess.run([*command, sys.executable, "-c", code, name, folder], check=True, cwd=TESTS, env=_environment())
    operations = []
    for line in trace.read_text().splitlines():
        assert "unfinished ..." not in line or str(folder) not in _decode(line), "two threads write at once"
        if (match := _LINE.match(line)) and (int(match["result"]) >= 0 or match["call"] == "access"):
            operations += _parse(match["call"], match["arguments"], str(folder))
    return operations


def act(name, folder):
    """Do what a scenario does; runs in the recorded process."""
    scenario = Careless() if name == "careless" else SCENARIOS[name]
    scenario.act(Path(folder), lambda promise: os.access(PROMISE + promise, os.F_OK))


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _decode(text):
    return re.sub(
        r"((?:\\x[0-9a-f]{2})+)", lambda match: bytes.fromhex(match[1].replace("\\x", "")).decode("latin-1"), text
    )


def _parse(call, arguments, root):
    """Return the operations of one system call below the root."""
    texts, paths, numbers = [], [], []
    for match in _ARGUMENT.finditer(arguments):
        if match["text"] is not None:
            texts.append(_decode(match["text"]))
            if call not in ("write", "pwrite64"):
                base = paths[-1] if paths and paths[-1] else ""
                paths.append(os.path.join(base, texts[-1]))
        elif match["path"] is not None:
            paths.append(_decode(match["path"]))
        else:
            numbers.append(match["number"])
    names = [path[len(root) + 1 :] for path in paths if path.startswith(root + "/") or path == root]
    if call == "access":
        return [Operation("promise", [texts[0].removeprefix(PROMISE)])] if texts[0].startswith(PROMISE) else []
    if not names:
        return []
    if call == "openat":
        flags = next((number for number in numbers if "O_" in number), "")
        kinds = [kind for flag, kind in (("O_CREAT", "create"), ("O_TRUNC", "truncate")) if flag in flags]
        return [Operation(kind, names[-1:], b"") for kind in kinds]
    if call in ("write", "pwrite64"):
        return [Operation("write", names[:1], texts[0].encode("latin-1"))]
    if call.startswith("rename"):
        return [Operation("rename", names[-2:])]
    if call in ("fsync", "fdatasync"):
        return [Operation("sync", names[:1])]
    if call == "ftruncate":
        return [Operation("truncate", names[:1], numbers[-1].encode())]
    kind = {"mkdir": "mkdir", "mkdirat": "mkdir", "rmdir": "rmdir"}.get(call, "remove")
    return [Operation("rmdir" if "AT_REMOVEDIR" in arguments else kind, names[-1:])]


# Replaying


class File:
    """Content of a file: what is certainly on the disk, and what has been written."""

    def __init__(self, content=b""):
        self.synced = self.written = content

    def choose(self, share):
        """Return the content after a power cut: of what is not synced, all, half or nothing is kept."""
        if self.synced == self.written or share == 1:
            return self.written
        if not share:
            return self.synced
        start = len(self.synced) if self.written.startswith(self.synced) else 0
        return self.written[: start + (len(self.written) - start) // 2]


class Disk:
    """What a program has done to a folder, and the states that a power cut may leave of it."""

    def __init__(self, folder):
        self.start = {"": None}
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            self.start[name] = None if path.is_dir() else File(path.read_bytes())
        self.tree = dict(self.start)
        self.log, self.certain, self.promised = [], set(), set()

    def apply(self, operation):
        kind, paths, data = operation
        if kind == "promise":
            self.promised = {*self.promised, *paths}
        elif kind == "sync":
            self._sync(paths[0])
        elif kind == "write":
            self.tree[paths[0]].written += data  # the recorded programs only append
        elif kind == "truncate":
            file = self.tree[paths[0]]
            file.written = file.written[: int(data or 0)]
        elif kind != "create" or paths[0] not in self.tree:
            self.log.append((kind, paths, None if kind == "mkdir" else File()))
            _change_names(self.tree, self.log[-1])

    def _sync(self, path):
        if file := self.tree.get(path):
            file.synced = file.written
        else:
            self.certain |= self._close({index for index in range(len(self.log)) if path in self._folders(index)})

    def _folders(self, index):
        kind, paths, _ = self.log[index]
        own = paths if kind in ("mkdir", "rmdir") else ()
        return {*(os.path.dirname(path) for path in paths), *own}

    def _close(self, kept):
        """Add what precedes in the same folders."""
        folders, closed = set(), set()
        for index in reversed(range(len(self.log))):
            if index in kept or folders & self._folders(index):
                closed.add(index)
                folders |= self._folders(index)
        return closed

    def list_states(self):
        """Yield the trees that a power cut may leave now, each as a dict of paths to contents."""
        count = len(self.log)
        choices = {frozenset(self.certain | set(range(number))) for number in range(count + 1)}
        for folder in {folder for index in range(count) for folder in self._folders(index)}:
            own = [index for index in range(count) if folder in self._folders(index)]
            choices |= {frozenset(self.certain | self._close(set(own[:number]))) for number in range(len(own) + 1)}
        for kept in choices:
            tree = dict(self.start)
            for index in sorted(kept):
                _change_names(tree, self.log[index])
            for share in (0, 0.5, 1):
                yield {path: file and file.choose(share) for path, file in tree.items()}


def _change_names(tree, change):
    kind, paths, file = change
    if kind in ("create", "mkdir"):
        tree[paths[0]] = file
    elif kind == "rename":
        tree[paths[1]] = tree.pop(paths[0])
    else:
        del tree[paths[0]]


def replay(name, folder, scenario=None):
    """Record a scenario and open every state; return the numbers of system calls, states and faults, and the faults."""
    scenario = scenario or SCENARIOS[name]
    root = folder / "root"
    root.mkdir()
    scenario.prepare(root)
    disk, faults, seen, calls = Disk(root), [], set(), 0
    for operation in [None, *record(name, root)]:
        if operation is not None:
            disk.apply(operation)
            calls += 1
        for state in disk.list_states():
            listing = repr((sorted(state.items()), sorted(disk.promised)))
            key = hashlib.sha256(listing.encode()).digest()
            if key in seen:
                continue
            seen.add(key)
            if fault := _open(scenario, state, disk.promised):
                faults.append(f"{name}, after call {calls} ({operation and operation[:2]}): {fault}")
    return {"program": name, "calls": calls, "states": len(seen), "faults": len(faults)}, faults


def _open(scenario, state, promised):
    """Write a state into a folder and open it as after a restart; return what was wrong."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="strokeseg-power-cut-", dir=memory))
    try:
        for path, content in sorted(state.items()):
            if content is None:
                (folder / path).mkdir(exist_ok=True)
            elif (folder / path).parent.is_dir():
                (folder / path).write_bytes(content)
        scenario.check(folder, promised)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        shutil.rmtree(folder)
    return None


def run(names=tuple(SCENARIOS), log=print):
    """Replay these programs; return a row for each."""
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            row, faults = replay(name, Path(folder))
        rows.append(row)
        for line in [row, *faults[:10]]:
            log(line)
    return rows
