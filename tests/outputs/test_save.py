import errno
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from phantoms.results import TIMING, make_document, make_lesion, make_planes, make_scan, make_scene
from strokeseg import outputs
from strokeseg.errors import DiskFull, NotWritable, UsageError
from strokeseg.outputs.folder import OutputFolder, restore_interrupted
from strokeseg.outputs.meshes import gltf
from strokeseg.outputs.report import html_report
from strokeseg.scene import Scene

NIFTI = {"mask.nii.gz", "ct.nii.gz", "lesions.nii.gz", "lesions.ctbl", "lesions_itksnap.txt"}
ALL = NIFTI | {
    "result.json",
    "result.schema.json",
    "scene.glb",
    "report.html",
    "key_1.png",
    "key_2.png",
}


@pytest.fixture
def save():
    scan = make_scan(make_planes(8, (0, 0, 5)), 32, 40)
    labels = np.zeros(scan.shape, dtype=np.int32)
    labels[2:5, 4:12, 4:12] = 1
    labels[6, 20:24, 20:24] = 2

    def call(out, formats=outputs.DEFAULT_FORMATS, labels=labels, meshes=None, finish=lambda: TIMING):
        document = lambda: (meshes or make_scene(), [])  # noqa: E731
        lesions = [make_lesion(1, 2, 4), make_lesion(2, 6, 6)][: labels.max()]
        return outputs.save(out, make_document(scan, lesions), scan, labels > 0, labels, document, formats, finish)

    call.labels = labels
    return call


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_writes_all_files_and_lists_them(save, tmp_path):
    document = save(tmp_path / "new" / "out")
    out = tmp_path / "new" / "out"
    assert names(out) == ALL == set(document.files.values())
    written = json.loads((out / "result.json").read_text("utf-8"))
    assert written == json.loads(document.model_dump_json())
    assert written["schema"] == "strokeseg.result/1" and written["timing_s"]["total"] == 2.25
    schema = json.loads((out / "result.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(written, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written | {"status": "perhaps"}, schema)


@pytest.mark.parametrize(
    ("formats", "expected"),
    [
        ((), set()),
        (("json",), set()),
        (("nifti",), NIFTI),
        (("nrrd",), {"lesions.seg.nrrd"}),
        (("stl", "ply"), {f"{name}.{kind}" for name in ("brain", "lesion_1", "lesion_2") for kind in ("stl", "ply")}),
        (("obj",), {"scene.obj", "scene.mtl"}),
        (("montage", "planes"), {"montage.png", "planes_1.png", "planes_2.png"}),
        (("views", "turn"), {"views.png", "turn.webp"}),
        (("mesh", "keys"), {"scene.glb", "key_1.png", "key_2.png"}),
        (("report",), {"report.html"}),
        (("pdf",), {"report.pdf"}),
    ],
)
def test_writes_what_is_asked_for(save, tmp_path, formats, expected):
    document = save(tmp_path, formats)
    assert names(tmp_path) == {"result.json", "result.schema.json"} | expected == set(document.files.values())


def test_no_surface_no_scene_file(save, tmp_path):
    document = save(tmp_path, ("mesh",), meshes=Scene(None, (), True))
    assert "scene" not in document.files and "scene.glb" not in names(tmp_path)


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, NotWritable)]
)
def test_a_failing_writer_leaves_nothing(save, tmp_path, monkeypatch, number, error):
    def fail(folder, *_):
        (folder / "report.html").write_text("half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(html_report, "save", fail)
    with pytest.raises(error) as caught:
        save(tmp_path / "a" / "b")
    assert str(tmp_path / "a" / "b") in caught.value.message
    assert not names(tmp_path)


def test_any_other_failure_leaves_nothing_either(save, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(gltf, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "out")
    assert not names(tmp_path)


ENDS = """
import errno, os, resource, signal, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from phantoms.results import TIMING, make_document, make_lesion, make_planes, make_scan, make_scene
from strokeseg import outputs
from strokeseg.outputs import dicom
from strokeseg.outputs.report import pdf_report
scan = make_scan(make_planes(8, (0, 0, 5)), 64, 80)
labels = np.zeros(scan.shape, np.int32)
labels[2:5, 4:12, 4:12] = 1
formats = [name for name in outputs.ALL_FORMATS if name not in dicom.FORMATS]
if sys.argv[3] == "killed":
    pdf_report.render_pdf = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
else:  # no file may grow beyond 20 kB: the system refuses the write itself
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
result = make_document(scan, [make_lesion(1, 2, 4)])
try:
    outputs.save(sys.argv[2], result, scan, labels > 0, labels, lambda: (make_scene(), []), formats, lambda: TIMING)
except Exception as error:
    print(getattr(error, "code", repr(error)))
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals and limits")
@pytest.mark.parametrize(("end", "expected"), [("killed", ""), ("full", "not-writable")])
def test_neither_a_kill_nor_a_full_disk_leaves_a_file_under_a_final_name(save, tmp_path, end, expected):
    """With an earlier result in the folder and without one; every format, in a process that really ends so."""
    save(tmp_path / "old")
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    for out in (tmp_path / "new", tmp_path / "old"):
        tests = str(Path(__file__).parents[1])
        run = [sys.executable, "-c", ENDS, tests, str(out), end]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == expected, done.stderr
        assert (done.returncode == -9) == (end == "killed")
        left = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} if out.exists() else {}
        assert left == (before if out.name == "old" else {})
    # What a kill leaves is hidden, and the next run removes it.
    hidden = {path.name for path in (tmp_path / "old").iterdir()} - set(before)
    assert all(name.startswith(".strokeseg-") for name in hidden) and bool(hidden) == (end == "killed")
    assert save(tmp_path / "old").files
    assert not list((tmp_path / "old").glob(".strokeseg-*"))


def write_result(out, text, files):
    with OutputFolder(out) as folder:
        for name in files:
            (folder.staging / name).write_text(text)
        document = {"schema": "strokeseg.result/1", "files": {name: name for name in files}}
        (folder.staging / "result.json").write_text(json.dumps(document))
        folder.commit([*files, "result.json"], last="result.json")


def run_killed_at(number, out, text, files):
    """Write a result in a process that is killed before its step of this number; return whether it was."""
    if child := os.fork():
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    steps = iter(range(1, 1000))

    def step(call, *arguments, **options):
        if next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    for name in ("replace", "mkdir", "unlink", "rmdir", "fsync"):
        setattr(os, name, partial(step, getattr(os, name)))
    try:
        write_result(out, text, files)
    finally:
        os._exit(0)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_after_a_kill_at_any_step_the_same_command_works_and_a_result_is_whole(tmp_path):
    """Kill a run that replaces an earlier result at every rename and removal; then look, restore and run again."""
    number, killed, seen = 0, True, set()
    while killed:
        number += 1
        out = tmp_path / str(number)
        write_result(out, "one", ["mask.nii.gz", "ct.nii.gz"])
        (out / "mine.txt").write_text("a note")
        killed = run_killed_at(number, out, "two", ["mask.nii.gz", "report.html"])
        restore_interrupted(out)
        whole = {path.name: path.read_text() for path in out.iterdir()}
        assert whole.pop("mine.txt") == "a note"
        document = json.loads(whole.pop("result.json"))
        assert set(whole) == set(document["files"]) and len(set(whole.values())) == 1
        seen.add(whole["mask.nii.gz"])
        write_result(out, "three", ["mask.nii.gz"])
        assert names(out) == {"mask.nii.gz", "result.json", "mine.txt"}
    assert number > 20 and seen == {"one", "two"}


@pytest.mark.skipif(os.name != "posix", reason="POSIX locks")
def test_what_another_process_is_writing_is_left_alone(tmp_path):
    with OutputFolder(tmp_path / "out") as folder:
        restore_interrupted(tmp_path / "out")
        with OutputFolder(tmp_path / "out") as other:
            assert other.staging != folder.staging
        assert folder.staging.is_dir()
    (tmp_path / ".strokeseg-old.partial/earlier").mkdir(parents=True)
    (tmp_path / ".strokeseg-old.partial/earlier/mask.nii.gz").write_text("of a version without plans")
    restore_interrupted(tmp_path, ended=True)
    assert (tmp_path / ".strokeseg-old.partial/earlier/mask.nii.gz").exists()


def test_a_failure_keeps_the_earlier_result_whole(save, tmp_path, monkeypatch):
    save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    replace, calls = os.replace, []

    def fail_late(source, target):
        calls.append(target)
        if len(calls) == len(ALL) + 4:  # all old ones aside, some new ones in place
            raise OSError(errno.ENOSPC, "full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_late)
    with pytest.raises(DiskFull):
        save(tmp_path, finish=lambda: TIMING.model_copy(update={"total": 99.0}))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_result_json_comes_last_and_goes_first(save, tmp_path, monkeypatch):
    save(tmp_path)
    replace, moves = os.replace, []

    def watch(source, target):
        if target.name == "plan.json":
            pass
        elif target.parent == tmp_path:
            moves.append(("in", target.name))
        else:
            moves.append(("out", target.name))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    save(tmp_path)
    assert moves[0] == ("out", "result.json") and moves[-1] == ("in", "result.json")


def test_stale_files_go_and_foreign_files_stay(save, tmp_path):
    save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "key_9.png").write_bytes(b"mine, no result lists it")
    single = np.where(save.labels == 1, 1, 0).astype(np.int32)
    save(tmp_path, ("keys",), labels=single)
    assert names(tmp_path) == {"result.json", "result.schema.json", "key_1.png", "notes.txt", "key_9.png"}
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_result_json_cannot_name_files_elsewhere(save, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    out = tmp_path / "out"
    save(out, ("json",))
    listing = json.loads((out / "result.json").read_text())
    listing["files"] = {"a": "../precious.txt", "b": str(tmp_path / "precious.txt"), "c": "other.png"}
    (out / "other.png").write_bytes(b"mine")
    (out / "result.json").write_text(json.dumps(listing))
    (out / "result.schema.json").unlink()
    save(out, ("json",))
    assert (tmp_path / "precious.txt").exists() and (out / "other.png").exists()


@pytest.mark.parametrize("name", ["ct.nii.gz", "result.json"])
def test_a_foreign_file_is_never_overwritten(save, tmp_path, name):
    (tmp_path / name).write_bytes(b"a scan of mine")
    for attempt in (lambda: outputs.check(tmp_path, outputs.DEFAULT_FORMATS), lambda: save(tmp_path)):
        with pytest.raises(NotWritable, match=name):
            attempt()
        assert names(tmp_path) == {name} and (tmp_path / name).read_bytes() == b"a scan of mine"


def test_check_leaves_nothing_behind(tmp_path):
    outputs.check(tmp_path / "a" / "b", ("json", "nifti"))
    outputs.check(tmp_path, outputs.DEFAULT_FORMATS)
    assert not names(tmp_path)


def test_unknown_format_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match="'docx'") as caught:
        outputs.check(tmp_path, ("json", "docx"))
    assert all(name in caught.value.remedy for name in outputs.DEFAULT_FORMATS)


def test_out_that_is_a_file_is_refused(save, tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(NotWritable, match="out"):
            outputs.check(out, ("json",))
        with pytest.raises(NotWritable):
            save(out)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system where nobody may make a folder")
def test_a_folder_where_nobody_may_write_is_refused():
    with pytest.raises(NotWritable, match="/proc/strokeseg"):
        outputs.check("/proc/strokeseg", ("json",))


def test_a_read_only_folder_is_refused(plain_user):
    folder, become = plain_user
    folder.chmod(0o555)
    become()
    with pytest.raises(NotWritable):
        outputs.check(folder, ("json",))
    assert list(folder.iterdir()) == []


def test_a_plan_cannot_name_other_files(tmp_path):
    """Such as one in a folder that someone sent: it would take a file of the user away."""
    staging = tmp_path / ".strokeseg-x.partial"
    staging.mkdir()
    (tmp_path / "mine.txt").write_text("a note")
    (staging / "result.json").write_text("{}")
    plan = {"names": ["mine.txt", "result.json"], "earlier": [], "last": "result.json"}
    (staging / "plan.json").write_text(json.dumps(plan))
    restore_interrupted(tmp_path, ended=True)
    assert (tmp_path / "mine.txt").read_text() == "a note"
