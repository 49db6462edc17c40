"""Archives and folders: their content, and members that must be refused."""

import io
import os
import shutil
import struct
import tarfile
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image
from pydicom.fileset import FileSet

from phantoms import head_series
from slowdown import measure_slowdown
from strokeseg.errors import EmptyInput, NotCT, TooLarge, UnreadableFile, UnsafeArchive
from strokeseg.reading import input_file, limits, read, read_one
from strokeseg.reading.archives.bounded_stream import BoundedStream


def make_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as target:
        for name, data in members:
            target.writestr(name, data)
    return path


def make_slice_bytes(folder):
    return head_series.write(head_series.make_datasets()[19], folder / "slice.dcm").read_bytes()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_with_folders_and_litter_is_the_series_in_it(tmp_path, method):
    folder = head_series.write_series(tmp_path / "series")
    members = [(f"study/series 1/{path.name}", path.read_bytes()) for path in folder.iterdir()]
    members += [("study/", b""), ("__MACOSX/study/._IM0001.dcm", b"x"), ("study/.DS_Store", b"x"), ("Thumbs.db", b"x")]
    scan = read_one(make_zip(tmp_path / "study.zip", members, compression=method))
    assert np.array_equal(scan.hu, read_one(folder).hu)
    assert scan.remarks == ()


def test_a_zip_of_pictures_is_a_stack(tmp_path):
    grey = np.clip(head_series.Geometry().plane_hu(9.0) * (255 / 80), 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "1.png")
    data = (tmp_path / "1.png").read_bytes()
    scan = read_one(make_zip(tmp_path / "stack.zip", [(f"stack/{n}.png", data) for n in (1, 2, 10)]))
    assert scan.shape == (3, 180, 160) and scan.kind == "pictures"


def test_a_zip_is_known_by_its_first_bytes(tmp_path):
    path = make_zip(tmp_path / "study.zip", [("a.dcm", make_slice_bytes(tmp_path))])
    assert read_one(path.rename(tmp_path / "study")).shape[0] == 1


@pytest.mark.parametrize(
    "name", ["../out.dcm", "a/../../out.dcm", "/etc/out.dcm", "..\\out.dcm", "C:/out.dcm", "C:\\out.dcm"]
)
def test_a_member_that_points_out_is_refused(tmp_path, name):
    with pytest.raises(UnsafeArchive, match="points out"):
        read_one(make_zip(tmp_path / "study.zip", [(name, make_slice_bytes(tmp_path))]))
    assert not (tmp_path.parent / "out.dcm").exists()


def test_a_zip_of_zips_is_refused(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", [("a.dcm", make_slice_bytes(tmp_path))]).read_bytes()
    with pytest.raises(UnsafeArchive, match="archive inside an archive") as caught:
        read_one(make_zip(tmp_path / "outer.zip", [("inner.ZIP", inner)]))
    assert "inner archive" in caught.value.remedy


def test_a_link_is_refused(tmp_path):
    info = zipfile.ZipInfo("a.dcm")
    info.external_attr = 0o120777 << 16
    with pytest.raises(UnsafeArchive, match="link"):
        read_one(make_zip(tmp_path / "study.zip", [(info, "/etc/passwd")]))


def test_an_encrypted_member_is_refused(tmp_path):
    path = make_zip(tmp_path / "study.zip", [("a.dcm", make_slice_bytes(tmp_path))])
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsafeArchive, match="encrypted") as caught:
        read_one(path)
    assert "password" in caught.value.remedy


def test_a_bomb_is_refused_without_unpacking(tmp_path):
    path = make_zip(tmp_path / "bomb.zip", [("a.dcm", b"\0" * (110 * 2**20))], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeArchive, match="200 times"):
        read_one(path)


def test_a_zip_that_claims_too_much_is_refused(tmp_path):
    path = make_zip(tmp_path / "big.zip", [(f"{n}.dcm", b"x") for n in range(3)])
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
    monkeypatch.setattr(limits, "MAX_FILES", 3)
    members = [(f"{n}.dcm", b"x") for n in range(4)]
    with pytest.raises(TooLarge):
        read_one(make_zip(tmp_path / "many.zip", members))
    for name, data in members:
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    with pytest.raises(TooLarge):
        read_one(tmp_path / "folder")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_whose_unpacking_has_no_bound_is_refused(tmp_path, method):
    with pytest.raises(UnsafeArchive, match="not compressed with deflate"):
        read_one(make_zip(tmp_path / "study.zip", [("a.dcm", make_slice_bytes(tmp_path))], compression=method))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_damaged_member_is_unreadable(tmp_path, method):
    path = make_zip(tmp_path / "study.zip", [("a.dcm", make_slice_bytes(tmp_path))], compression=method)
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    for index in range(middle, middle + 40):
        data[index] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match="damaged"):
        read_one(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, 0.9999])
def test_a_cut_zip_is_unreadable(tmp_path, share):
    data = make_zip(tmp_path / "study.zip", [("a.dcm", make_slice_bytes(tmp_path))]).read_bytes()
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
            read_one(make_zip(tmp_path / f"{name}.zip", members))


def test_a_link_within_the_folder_is_read_and_none_that_leaves_it(tmp_path):
    head_series.write(head_series.make_datasets()[19], tmp_path / "elsewhere" / "slice.dcm")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path / "elsewhere" / "slice.dcm")
    (folder / "round").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    (folder / "nowhere").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")
    with pytest.raises(EmptyInput, match="links to files outside"):
        read_one(folder)
    (tmp_path / "elsewhere").rename(folder / "inside")
    (folder / "again").symlink_to(folder / "inside" / "slice.dcm")
    assert read_one(folder).shape[0] == 1
    assert [member.name for member in input_file.list_folder(folder)] == ["again", "inside/slice.dcm"]


def test_a_folder_that_may_not_be_listed_is_unreadable(plain_user):
    folder, become_plain = plain_user
    (folder / "closed").mkdir(mode=0)
    become_plain()
    with pytest.raises(UnreadableFile, match="cannot be listed"):
        read_one(folder)


TARS = {"tar": "", "tar.gz": "gz", "tgz": "gz", "tar.bz2": "bz2", "tar.xz": "xz"}


def make_tar(path, members, compression=""):
    with tarfile.open(path, f"w:{compression}") as target:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if data is not None:
                info.size = len(data)
            target.addfile(info, io.BytesIO(data or b""))
    return path


@pytest.mark.parametrize("ending", TARS)
def test_a_tar_is_the_series_in_it(tmp_path, ending):
    folder = head_series.write_series(tmp_path / "series")
    members = [(f"study/a/{path.stem}", path.read_bytes()) for path in folder.iterdir()]
    members += [("__MACOSX/study/._IM0001.dcm", b"x"), ("study/.DS_Store", b"x"), ("study/Thumbs.db", b"x")]
    scan = read_one(make_tar(tmp_path / f"study.{ending}", members, TARS[ending]))
    assert np.array_equal(scan.hu, read_one(folder).hu) and scan.remarks == ()
    other = (tmp_path / f"study.{ending}").rename(tmp_path / "of-no-name")
    assert np.array_equal(read_one(other).hu, scan.hu)


@pytest.mark.parametrize("ending", TARS)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_cut_tar_is_refused_and_never_read_in_part(tmp_path, ending, share):
    folder = head_series.write_series(tmp_path / "series", head_series.make_datasets()[10:20])
    members = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    path = make_tar(tmp_path / f"study.{ending}", members, TARS[ending])
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UnreadableFile):
        read_one(path)


def test_headers_of_a_packed_tar_are_read_from_its_start_to_its_end(tmp_path, monkeypatch):
    """Names are in reverse order, and each header is longer than the kept part: to seek back is to inflate again."""
    slices = head_series.make_datasets()[10:22]
    members = []
    for number, data in enumerate(slices):
        data.add_new((0x0009, 0x0010), "LO", "X")
        data.add_new((0x0009, 0x1001), "OB", bytes(20_000))
        path = head_series.write(data, tmp_path / "in" / f"{99 - number}.dcm")
        members.append((path.name, path.read_bytes()))
    path = make_tar(tmp_path / "study.tar.gz", members, "gz")
    back, real = [], BoundedStream.seek

    def seek(self, offset, whence=0):
        if offset < self.tell() - 2**14:
            back.append(offset)
        return real(self, offset, whence)

    monkeypatch.setattr(BoundedStream, "seek", seek)
    assert read_one(path).shape[0] == len(slices)
    assert len(back) < 4


def test_a_tar_cut_between_two_members_is_refused(tmp_path):
    path = make_tar(
        tmp_path / "study.tar", [("a.dcm", make_slice_bytes(tmp_path)), ("b.dcm", make_slice_bytes(tmp_path))]
    )
    size = len(make_slice_bytes(tmp_path))
    path.write_bytes(path.read_bytes()[: 512 + -(-size // 512) * 512])
    with pytest.raises(UnreadableFile, match="breaks off"):
        read_one(path)


@pytest.mark.parametrize("name", ["../out.dcm", "a/../../out.dcm", "/etc/out.dcm", "C:\\out.dcm"])
def test_a_tar_member_that_points_out_is_refused(tmp_path, name):
    with pytest.raises(UnsafeArchive, match="points out"):
        read_one(make_tar(tmp_path / "study.tar", [(name, make_slice_bytes(tmp_path))]))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_a_tar_is_refused(tmp_path, kind):
    info = tarfile.TarInfo("a.dcm")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(UnsafeArchive, match=r"a link|not a regular file"):
        read_one(make_tar(tmp_path / "study.tar", [("b.dcm", make_slice_bytes(tmp_path)), (info, None)]))


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_tar_bomb_is_refused(tmp_path, compression):
    path = make_tar(tmp_path / "bomb.tar", [("a.dcm", bytes(220 * 2**20))], compression)
    with pytest.raises(UnsafeArchive, match="200 times"):
        read_one(path)


def test_a_tar_whose_name_record_is_a_bomb_is_refused(tmp_path):
    """The record of a long name is read at once, whatever size it claims."""
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    path = make_tar(tmp_path / "bomb.tar.gz", [(info, bytes(40 * 2**20)), ("a.dcm", b"x")], "gz")
    with pytest.raises(TooLarge, match="list of files"):
        read_one(path)


def test_a_tar_of_too_many_files_is_refused_early(tmp_path):
    path = make_tar(tmp_path / "many.tar.gz", [(f"{n}", b"") for n in range(20_001)], "gz")
    start = time.perf_counter()
    with pytest.raises(TooLarge, match="20,001 files"):
        read_one(path)
    assert time.perf_counter() - start < 20 * measure_slowdown()


def test_a_zip_with_a_list_of_a_million_files_is_refused_before_it_is_parsed(tmp_path):
    path = make_zip(tmp_path / "many.zip", [("a.dcm", b"x")])
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    tail = bytearray(data[end:])
    tail[8:12] = b"\xff\xff\xff\xff"
    tail[12:16] = struct.pack("<I", 500_000 * len(entry))
    path.write_bytes(data[:start] + entry * 500_000 + tail)
    with pytest.raises(TooLarge, match="list of files"):
        read_one(path)


def test_a_dicomdir_stands_for_its_medium_and_tells_what_is_missing(tmp_path):
    slices = head_series.make_datasets()
    files = FileSet()
    for data in slices:
        data.PatientName, data.StudyDate, data.StudyTime, data.StudyID = "A", "20200101", "120000", "1"
        data.SeriesNumber = 1
        files.add(data)
    files.write(tmp_path / "cd")
    whole = read_one(tmp_path / "cd" / "DICOMDIR")
    assert whole.shape[0] == len(slices) and whole.remarks == ()
    assert np.array_equal(read_one(tmp_path / "cd").hu, whole.hu)
    sorted(path for path in (tmp_path / "cd").rglob("*") if path.is_file() and path.name != "DICOMDIR")[-1].unlink()
    [remark] = [remark for remark in read_one(tmp_path / "cd").remarks if remark.code == "missing-files"]
    assert "37 images, of which 1" in remark.message
    index = tmp_path / "cd" / "DICOMDIR"
    index.write_bytes(index.read_bytes()[:900])  # a damaged index is none
    try:
        assert read_one(tmp_path / "cd").shape[0] == 36
    except UnreadableFile as error:
        raise AssertionError(str(error)) from error


def test_a_dicomdir_alone_is_refused_with_what_to_do(tmp_path):
    files = FileSet()
    data = head_series.make_datasets()[0]
    data.StudyDate, data.StudyTime, data.StudyID, data.SeriesNumber = "20200101", "120000", "1", 1
    files.add(data)
    files.write(tmp_path / "cd")
    (tmp_path / "alone").mkdir()
    (tmp_path / "cd" / "DICOMDIR").rename(tmp_path / "alone" / "DICOMDIR")
    with pytest.raises(NotCT, match="DICOMDIR alone") as caught:
        read_one(tmp_path / "alone")
    assert "whole folder" in caught.value.remedy


def test_a_deflated_bomb_is_refused(tmp_path):
    data = head_series.make_datasets()[19]
    data.add_new((0x0009, 0x0010), "LO", "X")
    data.add_new((0x0009, 0x1001), "OB", bytes(300 * 2**20))
    path = tmp_path / "slice.dcm"
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    data.save_as(path, enforce_file_format=True)
    with pytest.raises(TooLarge, match="inflates"):
        read_one(path)


def test_an_archive_beside_a_series_is_left_out(tmp_path):
    """Many exported studies contain the zip of a viewer, and a folder's name may contain a colon."""
    import zipfile

    from phantoms import head_series
    from strokeseg.reading import read_one

    head_series.write_series(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as study:
        for path in sorted((tmp_path / "in").iterdir()):
            study.write(path, f"CT: head/{path.name}")
        study.writestr("viewer/viewer.zip", b"PK")
    scan = read_one(tmp_path / "study.zip")
    assert len(scan.hu) == len(list((tmp_path / "in").iterdir()))
    assert "left-out" in {remark.code for remark in scan.remarks}


def test_a_member_name_that_swallowed_a_file_is_not_said(tmp_path):
    path = make_zip(tmp_path / "study.zip", [("/a\nSECRET^NAME", b"x")])
    with pytest.raises(UnreadableFile, match="invalid member name"):
        read_one(path)


def test_a_folder_of_a_million_files_is_refused_before_it_is_listed(tmp_path, monkeypatch):
    class Entry:
        path, name = str(tmp_path / "x"), "x"

        def is_dir(self, **_):
            return False

        def is_symlink(self):
            return False

        def is_file(self, **_):
            return True

    taken = []

    class Many:
        def __enter__(self):
            return (taken.append(1) or Entry() for _ in range(1_000_000))

        def __exit__(self, *_):
            pass

    real = input_file.os.scandir
    # Of this folder alone: temporary folders that are cleaned up meanwhile are looked into, too.
    monkeypatch.setattr(input_file.os, "scandir", lambda path: Many() if str(path) == str(tmp_path) else real(path))
    with pytest.raises(TooLarge, match="20,000 files"):
        read_one(tmp_path)
    assert len(taken) < 20_010


def test_a_zip_whose_two_names_of_a_member_part_quotes_nothing(tmp_path):
    """The message of zipfile would contain what it took for the name: here the whole slice, with patient data."""
    path = make_zip(tmp_path / "study.zip", [("slice.dcm", make_slice_bytes(tmp_path))])
    data = bytearray(path.read_bytes())
    data[26:28] = b"\xff\xff"  # the length of the name beside the member
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match="damaged") as caught:
        read_one(path)
    assert "SECRET" not in str(caught.value) and len(caught.value.message) < 200


def test_a_huge_private_element_is_stepped_over(tmp_path):
    data = head_series.make_datasets()[19]
    data.add_new((0x0009, 0x0010), "LO", "X")
    data.add_new((0x0009, 0x1001), "OB", bytes(80 * 2**20))
    path = head_series.write(data, tmp_path / "slice.dcm")
    tracemalloc.start()
    try:
        assert read_one(path).shape == (1, 180, 160)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packing", ["zip", "tar.gz"])
def test_a_folder_that_holds_one_archive_is_read_as_the_archive(tmp_path, packing):
    data = make_slice_bytes(tmp_path)
    folder = tmp_path / "export"
    folder.mkdir()
    if packing == "zip":
        make_zip(folder / "study.zip", [("a.dcm", data)])
    else:
        with tarfile.open(folder / "study.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "slice.dcm", "a.dcm")
    assert read_one(folder).shape[0] == 1
    (folder / "README.txt").write_text("an export")
    assert [scan.shape[0] for scan in read(folder)] == [1]
    assert "left-out" in {remark.code for remark in read_one(folder).remarks}
    make_zip(folder / "another.zip", [("a.dcm", data)])
    with pytest.raises(UnreadableFile, match=r"contains no DICOM, volume or picture, but"):
        read_one(folder)


@pytest.mark.parametrize("fetched", [True, False])
def test_links_of_git_annex_are_refused_with_a_remedy_that_works(tmp_path, fetched):
    """A data set of DataLad: every file is a link to an object below .git."""
    objects, study = tmp_path / ".git/annex/objects/K1", tmp_path / "sub-01/ct"
    study.mkdir(parents=True)
    for number, data in enumerate(head_series.make_datasets(head_series.Geometry(z_mm=(0.0, 3.0, 6.0, 9.0)))):
        head_series.write(data, objects / f"{number}.dcm")
        (study / f"{number}.dcm").symlink_to(f"../../.git/annex/objects/K1/{number}.dcm")
    (study / "README").write_text("a study")
    assert read_one(tmp_path).shape[0] == 4  # of the whole data set the links stay inside
    if not fetched:
        objects.rename(tmp_path / "elsewhere")
    for path in (study, study / "0.dcm"):
        if path != study and fetched:
            assert read_one(path).shape[0] == 1
            continue
        with pytest.raises(UnreadableFile, match="a link of git-annex") as caught:
            read_one(path)
        assert "cp -rL" in caught.value.remedy and ("datalad get" in caught.value.remedy) != fetched
    if not fetched:
        (tmp_path / "elsewhere").rename(objects)
    shutil.copytree(study, tmp_path / "copy", symlinks=False)  # as cp -rL
    assert read_one(tmp_path / "copy").shape[0] == 4


def test_the_present_folder_has_a_name_in_messages(tmp_path, monkeypatch):
    (tmp_path / "export").mkdir()
    (tmp_path / "export/a.txt").write_text("nothing")
    monkeypatch.chdir(tmp_path / "export")
    with pytest.raises(UnreadableFile, match=r"^export: contains no DICOM"):
        read_one(".")
