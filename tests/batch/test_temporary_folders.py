"""A killed batch leaves no file of a patient behind for longer than until the next one."""

import subprocess
import sys
import tempfile

import pytest

from strokeseg.batch import temporary_folders

HOLDER = (
    "from strokeseg.batch.temporary_folders import provide_folder\n"
    "with provide_folder() as folder:\n"
    "    (folder / 'a').mkdir()\n"
    "    (folder / 'a' / 'patient.dcm').write_bytes(b'x')\n"
    "    print(folder, flush=True)\n"
    "    input()\n"
)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The system's temporary folder, also of new processes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    tempfile.tempdir = None


def start_holder():
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_running_one_stays(temporary):
    running, kept = start_holder()
    killed, left = start_holder()
    killed.kill()
    killed.wait(10)
    names = {path.name for path in temporary.iterdir()}
    assert len(names) == 2
    with temporary_folders.provide_folder() as own:
        assert {str(path) for path in temporary.iterdir()} == {kept, str(own)} and left not in {kept, str(own)}
    running.communicate("\n", timeout=10)
    assert list(temporary.iterdir()) == []


def test_what_is_not_ours_stays(temporary):
    """A link that another user placed: neither it nor what it points at is removed."""
    (temporary / "papers").mkdir()
    (temporary / f"{temporary_folders.PREFIX}link").symlink_to(temporary / "papers")
    with temporary_folders.provide_folder():
        assert (temporary / "papers").is_dir() and (temporary / f"{temporary_folders.PREFIX}link").is_symlink()
