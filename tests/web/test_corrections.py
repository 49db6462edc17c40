"""Accepted corrections are exported for training: training's own reader reads the pairs."""

import nibabel
import numpy as np
import pytest
import sqlalchemy as sa

from strokeseg.cli import main
from strokeseg.evaluation.pairs import find_pairs
from strokeseg.web import database
from strokeseg.web.storage import Storage


@pytest.fixture
def folder(tmp_path):
    """Four studies: accepted twice, rejected, deleted, and one whose files are gone."""
    engine = database.connect(f"sqlite:///{tmp_path / 'serve.db'}")
    storage = Storage(str(tmp_path / "store"))
    common = {"created": 1.0, "changed": 1.0, "name": "MEIER^ANNA", "owner": "local", "status": "done"}
    common |= {"priority": "normal", "model": "default", "options": "{}", "upload": "x"}
    rows = [("a", 1, True), ("a", 2, True), ("a", 3, False), ("b", 1, False), ("c", 1, True), ("d", 1, True)]
    with engine.begin() as connection:
        for study in "abcd":
            connection.execute(sa.insert(database.studies).values(id=study, deleted=study == "c", **common))
        for study, version, accepted in rows:
            made = {"study": study, "version": version, "accepted": accepted, "folder": f"v{version}", "created": 1.0}
            connection.execute(sa.insert(database.versions).values(**made))
            if study == "d":
                continue
            for name, value in (("ct", 40), ("mask", 1)):
                pixels = np.zeros((8, 8, 3), np.int16)
                pixels[:version] = value
                nibabel.save(nibabel.Nifti1Image(pixels, np.eye(4)), tmp_path / f"{name}.nii.gz")
                storage.put(tmp_path / f"{name}.nii.gz", f"studies/{study}/v{version}/{name}.nii.gz")
    engine.dispose()
    return tmp_path


def test_the_latest_accepted_correction_of_each_study_is_a_pair(folder, capsys):
    out = folder / "out"
    options = ["--database", f"sqlite:///{folder / 'serve.db'}", "--storage", str(folder / "store")]
    assert main(["corrections", "-o", str(out), *options]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("1 corrected studies")
    assert "study d: no CT" in output.err
    [pair] = find_pairs(out)
    assert np.asarray(nibabel.load(pair.mask).dataobj).sum() == 2 * 8 * 3
    assert not any("MEIER" in path.name for path in out.iterdir())


def test_where_there_is_no_database_none_is_made(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["corrections", "-o", "out"]) == 3
    assert "not-found" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
