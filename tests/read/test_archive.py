"""Zips and folders: what is in them, and what never is let out of them."""

import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

import synth
from strokeseg.errors import EmptyInput, TooLarge, UnreadableFile, UnsafeArchive
from strokeseg.read import archive, read_one


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as target:
        for name, data in members:
            target.writestr(name, data)
    return path


def a_slice(folder):
    return synth.write(synth.datasets()[19], folder / "slice.dcm").read_bytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_with_folders_and_litter_is_the_series_in_it(tmp_path, method):
    folder = synth.write_series(tmp_path / "series")
    members = [(f"study/series 1/{path.name}", path.read_bytes()) for path in folder.iterdir()]
    members += [("study/", b""), ("__MACOSX/study/._IM0001.dcm", b"x"), ("study/.DS_Store", b"x"), ("Thumbs.db", b"x")]
    scan = read_one(zipped(tmp_path / "study.zip", members, compression=method))
    assert np.array_equal(scan.hu, read_one(folder).hu)
    assert scan.remarks == ()


def test_a_zip_of_pictures_is_a_stack(tmp_path):
    grey = np.clip(synth.Geometry().plane_hu(9.0) * (255 / 80), 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "1.png")
    data = (tmp_path / "1.png").read_bytes()
    scan = read_one(zipped(tmp_path / "stack.zip", [(f"stack/{n}.png", data) for n in (1, 2, 10)]))
    assert scan.shape == (3, 180, 160) and scan.kind == "pictures"


def test_a_zip_is_known_by_its_first_bytes(tmp_path):
    path = zipped(tmp_path / "study.zip", [("a.dcm", a_slice(tmp_path))])
    assert read_one(path.rename(tmp_path / "study")).shape[0] == 1


@pytest.mark.parametrize(
    "name", ["../out.dcm", "a/../../out.dcm", "/etc/out.dcm", "..\\out.dcm", "C:/out.dcm", "C:\\out.dcm"]
)
def test_a_member_that_points_out_is_refused(tmp_path, name):
    with pytest.raises(UnsafeArchive, match="points out"):
        read_one(zipped(tmp_path / "study.zip", [(name, a_slice(tmp_path))]))
    assert not (tmp_path.parent / "out.dcm").exists()


def test_a_zip_of_zips_is_refused(tmp_path):
    inner = zipped(tmp_path / "inner.zip", [("a.dcm", a_slice(tmp_path))]).read_bytes()
    with pytest.raises(UnsafeArchive, match="archive inside an archive") as caught:
        read_one(zipped(tmp_path / "outer.zip", [("inner.ZIP", inner)]))
    assert "inner archive" in caught.value.remedy


def test_a_link_is_refused(tmp_path):
    info = zipfile.ZipInfo("a.dcm")
    info.external_attr = 0o120777 << 16
    with pytest.raises(UnsafeArchive, match="link"):
        read_one(zipped(tmp_path / "study.zip", [(info, "/etc/passwd")]))


def test_an_encrypted_member_is_refused(tmp_path):
    path = zipped(tmp_path / "study.zip", [("a.dcm", a_slice(tmp_path))])
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsafeArchive, match="encrypted") as caught:
        read_one(path)
    assert "password" in caught.value.remedy


def test_a_bomb_is_refused_without_unpacking(tmp_path):
    path = zipped(tmp_path / "bomb.zip", [("a.dcm", b"\0" * (110 * 2**20))], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeArchive, match="200 times"):
        read_one(path)


def test_a_zip_that_claims_too_much_is_refused(tmp_path):
    path = zipped(tmp_path / "big.zip", [(f"{n}.dcm", b"x") for n in range(3)])
    data = bytearray(path.read_bytes())
    start = 0
    for _ in range(3):
        start = data.index(b"PK\x01\x02", start)
        data[start + 24 : start + 28] = struct.pack("<I", 2**32 - 2)
        start += 4
    path.write_bytes(data)
    with pytest.raises(TooLarge, match=r"12\.0 GiB"):
        read_one(path)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    members = [(f"{n}.dcm", b"x") for n in range(4)]
    with pytest.raises(TooLarge):
        read_one(zipped(tmp_path / "many.zip", members))
    for name, data in members:
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    with pytest.raises(TooLarge):
        read_one(tmp_path / "folder")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED])
def test_a_damaged_member_is_unreadable(tmp_path, method):
    path = zipped(tmp_path / "study.zip", [("a.dcm", a_slice(tmp_path))], compression=method)
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    for index in range(middle, middle + 40):
        data[index] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match="damaged"):
        read_one(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, 0.9999])
def test_a_cut_zip_is_unreadable(tmp_path, share):
    data = zipped(tmp_path / "study.zip", [("a.dcm", a_slice(tmp_path))]).read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: int(share * len(data))])
    with pytest.raises(UnreadableFile, match="damaged"):
        read_one(tmp_path / "cut.zip")


def test_what_is_named_zip_and_is_none_is_unreadable(tmp_path):
    (tmp_path / "study.zip").write_text("no zip")
    with pytest.raises(UnreadableFile, match="damaged"):
        read_one(tmp_path / "study.zip")


def test_an_empty_zip_and_one_of_litter_are_empty(tmp_path):
    for name, members in {
        "none": [],
        "litter": [("__MACOSX/._a", b""), (".DS_Store", b"")],
        "folder": [("a/", b"")],
    }.items():
        with pytest.raises(EmptyInput):
            read_one(zipped(tmp_path / f"{name}.zip", members))


def test_a_folder_of_links_is_read_and_a_circle_of_folders_ends(tmp_path):
    synth.write(synth.datasets()[19], tmp_path / "elsewhere" / "slice.dcm")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "slice.dcm").symlink_to(tmp_path / "elsewhere" / "slice.dcm")
    (folder / "round").symlink_to(folder)
    (folder / "nowhere").symlink_to(tmp_path / "nowhere")
    assert read_one(folder).shape[0] == 1


def test_a_folder_that_may_not_be_listed_is_unreadable(plain_user):
    folder, become_plain = plain_user
    (folder / "closed").mkdir(mode=0)
    become_plain()
    with pytest.raises(UnreadableFile, match="cannot be listed"):
        read_one(folder)


def test_an_archive_beside_a_series_is_left_out(tmp_path):
    """A viewer's own zip lies in many an exported study, and a folder's name may hold a colon."""
    import zipfile

    import synth
    from strokeseg.read import read_one

    synth.write_series(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as study:
        for path in sorted((tmp_path / "in").iterdir()):
            study.write(path, f"CT: head/{path.name}")
        study.writestr("viewer/viewer.zip", b"PK")
    scan = read_one(tmp_path / "study.zip")
    assert len(scan.hu) == len(list((tmp_path / "in").iterdir()))
    assert "left-out" in {remark.code for remark in scan.remarks}
