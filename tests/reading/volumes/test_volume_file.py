"""NRRD and MetaImage files written by SimpleITK, and headers that must be refused."""

import bz2
import gzip
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import SimpleITK

from phantoms import head_series
from phantoms.head_series import LESION_CENTRE_MM, LESION_ML
from slowdown import measure_slowdown
from strokeseg.errors import InputError, TooLarge, UnreadableFile
from strokeseg.reading import read_one

SPACING = (1.5, 1.6, 3.0)
SIZE = (110, 128, 38)


def rotation_matrix(degrees):
    yaw, pitch = np.radians([degrees, -degrees / 2])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return about_z @ about_x


def make_image(degrees=0, dtype=np.int16):
    """Make the head as an ITK image (LPS) with rotated axes."""
    direction = rotation_matrix(degrees)
    origin = -direction @ np.diag(SPACING) @ ((np.array(SIZE) - 1) / 2)
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in SIZE), indexing="ij"), axis=-1)
    points = indices * SPACING @ direction.T + origin
    image = SimpleITK.GetImageFromArray(head_series.head_hu(points).transpose(2, 1, 0).astype(dtype))
    image.SetSpacing(SPACING)
    image.SetOrigin(origin.tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


@pytest.mark.parametrize("ending", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("degrees", [0, 12])
def test_a_volume_of_simpleitk_has_its_lesion_at_its_position(tmp_path, ending, packed, degrees):
    image = make_image(degrees)
    SimpleITK.WriteImage(image, tmp_path / f"head.{ending}", useCompression=packed)
    scan = read_one(tmp_path / f"head.{ending}")
    volume, centroid = head_series.measure_lesion(scan)
    assert scan.kind == ("nrrd" if ending.startswith("n") else "metaimage")
    assert np.array_equal(scan.hu, SimpleITK.GetArrayFromImage(image))
    assert scan.planes.to_lps_mm([3, 5, 7])[0] == pytest.approx(
        image.TransformIndexToPhysicalPoint((7, 5, 3)), abs=1e-3
    )
    assert volume == pytest.approx(LESION_ML, rel=0.02) and np.abs(centroid - LESION_CENTRE_MM).max() < 0.75
    assert not {remark.code for remark in scan.remarks} & {"no-orientation", "left-out"}
    assert np.array_equal(read_one(tmp_path).hu, scan.hu)  # the folder, with the voxels beside the header


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_every_number_type_gives_the_same(tmp_path, ending, dtype):
    SimpleITK.WriteImage(make_image(dtype=dtype), tmp_path / f"head.{ending}")
    assert np.array_equal(read_one(tmp_path / f"head.{ending}").hu, SimpleITK.GetArrayFromImage(make_image()))


@pytest.mark.parametrize("ending", ["nhdr", "mhd"])
def test_a_zip_may_hold_the_voxels_beside_the_header(tmp_path, ending):
    SimpleITK.WriteImage(make_image(), tmp_path / f"head.{ending}", useCompression=True)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in sorted(tmp_path.glob("head.*")):
            archive.write(path, f"in/{path.name}")
    assert np.array_equal(read_one(tmp_path / "study.zip").hu, SimpleITK.GetArrayFromImage(make_image()))


def write_nrrd(path, head, data):
    path.write_bytes(b"NRRD0004\n" + head.encode() + b"\n\n" + data)
    return path


PLAIN = "type: short\ndimension: 3\nsizes: 110 128 38\nendian: {endian}\nencoding: {encoding}\n{space}"
RAS = (
    "space: right-anterior-superior\nspace directions: (-1.5,0,0) (0,-1.6,0) (0,0,3)\nspace origin: (81.75,101.6,-55.5)"
)


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_nrrd_by_hand_in_ras_any_order_of_bytes_and_packing(tmp_path, endian, encoding):
    voxels = SimpleITK.GetArrayFromImage(make_image()).astype("<i2" if endian == "little" else ">i2").tobytes()
    data = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[encoding](voxels)
    path = write_nrrd(tmp_path / "head.nrrd", PLAIN.format(endian=endian, encoding=encoding, space=RAS), data)
    scan = read_one(path)
    assert np.array_equal(scan.hu, SimpleITK.GetArrayFromImage(make_image()))
    assert np.abs(head_series.measure_lesion(scan)[1] - LESION_CENTRE_MM).max() < 0.75


def test_a_volume_without_a_space_has_no_known_sides(tmp_path):
    voxels = SimpleITK.GetArrayFromImage(make_image()).tobytes()
    head = PLAIN.format(endian="little", encoding="raw", space="spacings: 1.5 1.6 3")
    scan = read_one(write_nrrd(tmp_path / "head.nrrd", head, voxels))
    assert "no-orientation" in {remark.code for remark in scan.remarks}
    assert head_series.measure_lesion(scan)[0] == pytest.approx(LESION_ML, rel=0.02)


@pytest.mark.parametrize(
    "name", ["../secret.raw", "/etc/passwd", "sub/secret.raw", "a%03d.raw 1 9 1", "..", "C:\\x.raw"]
)
@pytest.mark.parametrize("ending", ["mhd", "nhdr"])
def test_voxels_elsewhere_are_not_read(tmp_path, name, ending):
    folder = tmp_path / "in" / "here"
    (folder / "sub").mkdir(parents=True)
    for index in (tmp_path / "in", folder / "sub"):
        (index / "secret.raw").write_bytes(SimpleITK.GetArrayFromImage(make_image()).tobytes())
    write_header_naming(folder / f"head.{ending}", name)
    with pytest.raises(UnreadableFile, match="no file beside it"):
        read_one(folder / f"head.{ending}")


def test_a_link_to_voxels_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "secret.raw").write_bytes(SimpleITK.GetArrayFromImage(make_image()).tobytes())
    (tmp_path / "here").mkdir()
    (tmp_path / "here/head.raw").symlink_to(tmp_path / "secret.raw")
    write_header_naming(tmp_path / "here/head.mhd", "head.raw")
    for given in ("here/head.mhd", "here"):
        with pytest.raises(UnreadableFile, match="no file beside it"):
            read_one(tmp_path / given)


def write_header_naming(path, name):
    if path.suffix == ".mhd":
        path.write_text(
            f"ObjectType = Image\nNDims = 3\nDimSize = 110 128 38\nElementType = MET_SHORT\nElementDataFile = {name}\n"
        )
    else:
        write_nrrd(path, PLAIN.format(endian="little", encoding="raw", space=f"data file: {name}"), b"")


def test_a_volume_that_unpacks_beyond_its_header_is_read_no_further(tmp_path):
    voxels = SimpleITK.GetArrayFromImage(make_image()).tobytes()
    head = PLAIN.format(endian="little", encoding="gzip", space=RAS)
    scan = read_one(write_nrrd(tmp_path / "head.nrrd", head, gzip.compress(voxels + bytes(2**28))))
    assert np.array_equal(scan.hu, SimpleITK.GetArrayFromImage(make_image()))


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.999])
def test_a_cut_volume_is_unreadable(tmp_path, ending, share):
    SimpleITK.WriteImage(make_image(), tmp_path / f"head.{ending}")
    whole = (tmp_path / f"head.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UnreadableFile):
        read_one(tmp_path / f"cut.{ending}")


def test_more_voxels_than_are_read(tmp_path):
    (tmp_path / "head.mha").write_text(
        "NDims = 3\nDimSize = 99999 99999 99999\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    with pytest.raises(TooLarge):
        read_one(tmp_path / "head.mha")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_damaged_headers_are_refused_in_words(tmp_path, ending, seed):
    SimpleITK.WriteImage(make_image(), tmp_path / f"head.{ending}")
    whole, rng = (tmp_path / f"head.{ending}").read_bytes(), np.random.default_rng(seed)
    for _ in range(15):
        damaged = bytearray(whole)
        for index in rng.integers(0, 400, 4):
            damaged[index] = rng.integers(0, 256)
        (tmp_path / f"bad.{ending}").write_bytes(damaged)
        try:
            read_one(tmp_path / f"bad.{ending}")
        except InputError as error:
            assert "\n" not in error.message and error.remedy


def test_a_header_of_brackets_takes_no_time(tmp_path):
    head = PLAIN.format(endian="little", encoding="raw", space="space directions: " + 60_000 * "(")
    began = time.process_time()
    with pytest.raises(UnreadableFile):
        read_one(write_nrrd(tmp_path / "head.nrrd", head, b""))
    assert time.process_time() - began < 2 * measure_slowdown()


def test_a_header_without_an_end_is_refused_and_one_alone_needs_none(tmp_path):
    head = PLAIN.format(endian="little", encoding="raw", space=f"{RAS}\ndata file: head.raw")
    (tmp_path / "head.raw").write_bytes(SimpleITK.GetArrayFromImage(make_image()).tobytes())
    (tmp_path / "head.nhdr").write_text(f"NRRD0004\n{head}")
    assert np.array_equal(read_one(tmp_path / "head.nhdr").hu, SimpleITK.GetArrayFromImage(make_image()))
    (tmp_path / "head.nhdr").write_text(f"NRRD0004\n{head}\n# {70_000 * 'x'}")
    with pytest.raises(UnreadableFile):
        read_one(tmp_path / "head.nhdr")


@pytest.mark.parametrize("encoding", ["gzip", "bzip2"])
def test_bytes_to_skip_are_counted_unpacked(tmp_path, encoding):
    voxels = SimpleITK.GetArrayFromImage(make_image()).tobytes()
    data = {"gzip": gzip.compress, "bzip2": bz2.compress}[encoding](b"\x11" * 100 + voxels)
    head = PLAIN.format(endian="little", encoding=encoding, space=f"{RAS}\nbyte skip: 100")
    scan = read_one(write_nrrd(tmp_path / "head.nrrd", head, data))
    assert np.array_equal(scan.hu, SimpleITK.GetArrayFromImage(make_image()))


@pytest.mark.parametrize("line", ["ElementToIntensityFunctionSlope = 2", "ElementToIntensityFunctionOffset = -1024"])
def test_values_that_are_to_be_scaled_are_refused(tmp_path, line):
    SimpleITK.WriteImage(make_image(), tmp_path / "head.mha")
    whole = (tmp_path / "head.mha").read_bytes()
    plain = line.rsplit(" ", 1)[0] + (" 1" if "Slope" in line else " 0")
    for field in (plain, line):
        (tmp_path / "head.mha").write_bytes(whole.replace(b"ElementDataFile", field.encode() + b"\nElementDataFile", 1))
        if field == plain:
            read_one(tmp_path / "head.mha")
    with pytest.raises(UnreadableFile, match="states a scale"):
        read_one(tmp_path / "head.mha")


def test_no_voxels_are_claimed_and_gigabytes_packed(tmp_path):
    """A size of 0 must not remove the limit on the decompressed data."""
    head = PLAIN.format(endian="little", encoding="gzip", space=RAS).replace("110 128 38", "110 0 38")
    packed = gzip.compress(bytes(2**26))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile):
            read_one(write_nrrd(tmp_path / "head.nrrd", head, packed))
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
