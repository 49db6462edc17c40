"""Every bad input is refused with its code, one readable sentence without patient data, and a remedy."""

import gc
import pickle

import numpy as np
import pytest

from phantoms import head_series
from strokeseg.errors import InputError
from strokeseg.reading import read_one


def write_text_file(folder):
    (folder / "slice.dcm").write_text("This is no DICOM.")
    return folder / "slice.dcm"


def write_cut_slice(folder, length):
    path = head_series.write(head_series.make_datasets()[19], folder / "slice.dcm")
    data = path.read_bytes()
    path.write_bytes(data[: length if length > 1 else int(length * len(data))])
    return path


def make_empty_folder(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def write_empty_file(folder):
    (folder / "slice.dcm").touch()
    return folder / "slice.dcm"


def write_series_with_cut_file(folder):
    head_series.write_series(folder / "series")
    path = folder / "series/IM0012.dcm"
    path.write_bytes(path.read_bytes()[:20_000])
    return folder / "series"


def write_mr_slice(folder):
    return head_series.write(head_series.make_mr(head_series.make_datasets()[19]), folder / "slice.dcm")


def writer_without(keyword):
    def make(folder):
        data = head_series.make_datasets()[19]
        delattr(data, keyword)
        return head_series.write(data, folder / "slice.dcm")

    return make


def writer_with(keyword, value):
    def make(folder):
        data = head_series.make_datasets()[19]
        setattr(data, keyword, value)
        return head_series.write(data, folder / "slice.dcm")

    return make


BAD = {
    "empty folder": (make_empty_folder, "empty"),
    "a folder of one empty file": (lambda folder: write_empty_file(folder).parent, "unreadable"),
    "text named .dcm": (write_text_file, "unreadable"),
    "empty file": (write_empty_file, "unreadable"),
    "no such path": (lambda folder: folder / "nowhere.zip", "unreadable"),
    "a name too long": (lambda folder: folder / ("x" * 5000), "unreadable"),
    "a path through a file": (lambda folder: write_text_file(folder) / "inside", "unreadable"),
    "a device": (lambda folder: "/dev/null", "unreadable"),
    "cut in the mark": (lambda folder: write_cut_slice(folder, 130), "unreadable"),
    "cut in the meta header": (lambda folder: write_cut_slice(folder, 200), "unreadable"),
    "cut in the header": (lambda folder: write_cut_slice(folder, 700), "unreadable"),
    "cut at the pixels": (
        lambda folder: write_cut_slice(folder, len(write_cut_slice(folder, 10**6).read_bytes()) - 57_600),
        "unreadable",
    ),
    "cut inside the pixels": (lambda folder: write_cut_slice(folder, 0.6), "unreadable"),
    "one cut file of many": (write_series_with_cut_file, "unreadable"),
    "MR": (write_mr_slice, "not-ct"),
    "no position": (writer_without("ImagePositionPatient"), "unreadable"),
    "no orientation": (writer_without("ImageOrientationPatient"), "unreadable"),
    "no spacing": (writer_without("PixelSpacing"), "unreadable"),
    "a spacing of zero": (writer_with("PixelSpacing", [0, 0]), "unreadable"),
    "an orientation that is none": (writer_with("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "unreadable"),
    "rows that lie": (writer_with("Rows", 999), "unreadable"),
    "rows beyond bounds": (writer_with("Rows", 65535), "unreadable"),
    "all of one value": (writer_with("PixelData", bytes(57_600)), "not-head"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_sentence(tmp_path, name, capfd, recwarn):
    make, code = BAD[name]
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    gc.collect()  # what earlier tests of this process left behind may warn when it goes
    recwarn.clear()
    with pytest.raises(InputError) as caught:
        read_one(path)
    error = caught.value
    assert error.code == code and error.exit_code == 3
    assert 10 < len(error.message) < 6000 and "\n" not in error.message and error.remedy
    assert "SECRET" not in str(error) + error.remedy and "Traceback" not in str(error)
    assert (error.__cause__ is None and error.__suppress_context__) or error.__context__ is None
    assert pickle.loads(pickle.dumps(error)).message == error.message
    assert sorted(tmp_path.rglob("*")) == before
    assert capfd.readouterr() == ("", "")
    assert [str(each.message) for each in recwarn] == []


def test_broken_values_reach_no_log_and_no_stderr(tmp_path, capfd, caplog, recwarn):
    slices = head_series.make_datasets()
    for data in slices:
        data.StudyDate = "SECRET-DATE-OF-NO-FORM"
        data.SOPInstanceUID = f"ID_{data.InstanceNumber}"
        data.SeriesInstanceUID = "ID_SERIES"
    scan = read_one(head_series.write_series(tmp_path, slices))
    assert scan.series_uid == "ID_SERIES" and scan.sop_instance_uids[0] == "ID_1"
    gc.collect()
    recwarn.clear()  # warnings of pydicom on writing, and of earlier tests
    caplog.clear()
    capfd.readouterr()
    read_one(tmp_path)
    assert capfd.readouterr() == ("", "") and not caplog.records and not recwarn.list


def test_a_file_that_may_not_be_read_is_unreadable(plain_user):
    folder, become_plain = plain_user
    path = head_series.write(head_series.make_datasets()[19], folder / "slice.dcm")
    read_one(path)
    path.chmod(0)
    become_plain()
    with pytest.raises(InputError) as caught:
        read_one(path)
    assert caught.value.code == "unreadable"


def make_phantom(shell_hu=None):
    """Make a water disc of 200 mm, optionally in a shell."""
    radius = np.hypot(*(np.mgrid[:256, :256] - 127.5))
    hu = np.where(radius < 100, np.random.default_rng(0).normal(0, 6, radius.shape), -1000)
    if shell_hu is not None:
        hu[(radius >= 100) & (radius < 106)] = shell_hu
    return hu, 1.0


def make_abdomen():
    """Make an ellipse of 350 x 250 mm: fat, muscle, organs, a spine, and ribs around."""
    rows, columns = np.mgrid[:256, :256] - 127.5
    distance = np.hypot(columns / 117, rows / 83)
    hu = np.where(distance < 1, -100, -1000)
    hu[distance < 0.88] = 50
    hu[(distance < 0.7) & ((rows // 12 + columns // 12) % 3 == 0)] = -90
    angle = np.arctan2(rows, columns)
    hu[(distance > 0.8) & (distance < 0.86) & (np.cos(16 * angle) > 0)] = 500
    hu[np.hypot(rows - 50, columns) < 14] = 400
    hu[np.hypot(rows - 54, columns) < 5] = 30
    return hu, 1.5


def make_chest():
    hu, _ = make_abdomen()
    rows, columns = np.mgrid[:256, :256] - 127.5
    for side in (-1, 1):
        hu[np.hypot((columns - 50 * side) / 40, rows / 50) < 1] = -850
    return hu, 1.4


def make_pelvis():
    """Make a ring of bone of 240 mm around muscle, fat and a bladder."""
    hu, _ = make_abdomen()
    rows, columns = np.mgrid[:256, :256] - 127.5
    ring = np.hypot(columns / 90, rows / 62)
    hu[(ring > 0.8) & (ring < 1) & (np.abs(columns) > 25)] = 500
    hu[ring < 0.8] = np.where((rows // 9 + columns // 9) % 2, 50, -90)[ring < 0.8]
    return hu, 1.5


def make_barrel():
    """Make a ring of bone of 260 mm around one tissue: the shape of a skull, but not its size."""
    radius = np.hypot(*(np.mgrid[:256, :256] - 127.5))
    return np.select([radius < 113, radius < 119], [40, 900], -1000), 1.1


def make_mr():
    """Make a head as magnetic resonance shows it: bright fat outside, bone dark, brain at some hundred."""
    hu = head_series.Geometry().plane_hu(9.0).astype(float)
    return np.select([hu > 500, hu == 65, hu == 35], [20, 700, 450], 5), 1.1


@pytest.mark.parametrize(
    "phantom",
    [
        make_phantom(),
        make_phantom(120),
        make_phantom(900),
        make_abdomen(),
        make_chest(),
        make_pelvis(),
        make_barrel(),
        make_mr(),
    ],
    ids=["water", "acrylic", "teflon", "abdomen", "chest", "pelvis", "barrel", "mr-named-ct"],
)
@pytest.mark.parametrize("slices", [1, 5])
def test_what_is_no_head_is_refused(tmp_path, phantom, slices):
    hu, pixel_mm = phantom
    geometry = head_series.Geometry(shape=hu.shape, spacing_mm=(pixel_mm, pixel_mm))
    data = [
        head_series.ct_dataset(hu.astype(np.int16), geometry.position(5.0 * n), geometry, instance=n)
        for n in range(slices)
    ]
    with pytest.raises(InputError) as caught:
        read_one(head_series.write_series(tmp_path, data))
    assert caught.value.code == "not-head"
