"""Lesions of a real patient, drawn at 1 mm: measured directly, on thick slices, and on tilted and rotated planes."""

import nibabel
import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from data_sets import find_data_set
from phantoms import shapes
from strokeseg.imaging.components import iterate_components, label
from strokeseg.measurements.lesion.abc2 import abc2_ml
from strokeseg.measurements.lesion.shape import max_diameter_mm, sphericity, surface_mm2
from strokeseg.measurements.lesion.volume import centroid_lps_mm, volume_ml
from strokeseg.scan import Scan

KINDS = {"in the brain": 1, "outside of the brain": 2, "in the ventricles": 4}
every_kind = pytest.mark.parametrize("kind", list(KINDS.values()), ids=list(KINDS))


@pytest.fixture(scope="module")
def label_map():
    """Load the label map, shape (slices, rows, columns), 1 mm; the orientation of its axes does not affect a shape."""
    image = nibabel.load(find_data_set("lesion_labels_3d") / "scan_0_segmentation.nii.gz")
    assert np.allclose(image.header.get_zooms(), 1)
    return np.ascontiguousarray(np.asarray(image.dataobj).T)


def at_1_mm(mask):
    return Scan.from_array(np.zeros(mask.shape), (1, 1, 1))


def sampled(mask, planes, shape):
    """Sample the nearest drawn pixel for each pixel of the planes, whose positions are (z, y, x) of ``mask`` in mm."""
    places = np.rint(shapes.compute_points_mm(planes, shape)).astype(int)
    inside = ((places >= 0) & (places < np.array(mask.shape)[::-1])).all(-1)
    x, y, z = (np.where(inside, places[..., axis], 0) for axis in range(3))
    return mask[z, y, x] & inside


def cut_by(mask, *, step, tilt=0.0, turn=0.0, beside=0.0):
    """Cut a lesion into slices every ``step`` mm with pixels of 0.5 mm, on a head rotated about its long axis."""
    about = np.radians(turn)
    row, column = np.array([np.cos(about), 0, -np.sin(about)]), np.array([0, 1.0, 0])
    points = np.argwhere(mask)[:, ::-1]
    middle = (points.min(0) + points.max(0)) / 2 - 80 * row - 80 * column
    places = np.arange(-70 + beside, 70, step)
    planes = shapes.make_planes(places, (0.5, 0.5), tilt_deg=tilt, row=row, column=column, origin=middle)
    return sampled(mask, planes, (320, 320)), shapes.make_scan(planes, (320, 320))


@every_kind
def test_volumes_are_those_that_counting_gives(label_map, kind):
    mask = label_map == kind
    assert volume_ml(mask, at_1_mm(mask)) == pytest.approx(np.count_nonzero(mask) / 1000)
    assert np.count_nonzero(mask) / 1000 == pytest.approx({1: 46, 2: 23, 4: 0.6}[kind], abs=0.5)


@every_kind
def test_components_and_their_shapes_agree_with_simpleitk(label_map, kind):
    """Number, volume and centre of every component; surface within 2 %; SimpleITK's roundness is the sphericity."""
    mask = label_map == kind
    scan = at_1_mm(mask)
    labels, count = label(mask, scan)
    image = SimpleITK.RelabelComponent(
        SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype("u1")), True)
    )
    statistics = SimpleITK.LabelShapeStatisticsImageFilter()
    statistics.ComputePerimeterOn()
    statistics.Execute(image)
    assert count == statistics.GetNumberOfLabels()
    volumes = [volume_ml(part, cut) for part, cut, _ in iterate_components(labels, scan)]
    assert volumes == pytest.approx([statistics.GetPhysicalSize(number) / 1000 for number in statistics.GetLabels()])
    part, cut, _ = next(iterate_components(labels, scan))
    assert centroid_lps_mm(part, cut) == pytest.approx(statistics.GetCentroid(1), abs=1e-6)
    surface = surface_mm2(part, cut)
    assert surface == pytest.approx(statistics.GetPerimeter(1), rel=0.02)
    assert sphericity(volumes[0], surface) == pytest.approx(statistics.GetRoundness(1), rel=0.02)


def test_components_agree_with_cc3d(label_map):
    cc3d = pytest.importorskip("cc3d")
    mask = np.isin(label_map, (1, 2, 4))
    labels, count = label(mask, at_1_mm(mask))
    theirs = cc3d.connected_components(mask, connectivity=26)
    pairs = np.unique(np.stack([labels[mask], theirs[mask]]), axis=1)
    assert count == theirs.max() == pairs.shape[1]


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize(("kind", "most"), [(1, 0.03), (2, 0.05), (4, 0.35)])
def test_slices_of_5_mm_keep_the_volume(label_map, kind, most, first):
    """Every fifth slice. The difference is due to sampling: 0.6 ml in the ventricles lie on two or three slices."""
    mask = (label_map == kind)[first::5]
    scan = Scan.from_array(np.zeros(mask.shape), (5, 1, 1))
    assert volume_ml(mask, scan) == pytest.approx(np.count_nonzero(label_map == kind) / 1000, rel=most)


@pytest.mark.parametrize(
    "given",
    [
        {"step": 1.25, "tilt": 18.5},
        {"step": 2.5, "tilt": 30.0},
        {"step": 5.0, "tilt": 18.5},
        {"step": 5.0, "tilt": -25.0, "beside": 2.0},
        {"step": 5.0, "turn": 30.0},
        {"step": 5.0, "turn": -20.0, "tilt": 20.0, "beside": 1.0},
    ],
    ids=str,
)
def test_tilted_and_turned_planes_keep_volume_and_main_lesion(label_map, given):
    """The largest lesion keeps its volume and centre; smaller ones may fall between thick slices."""
    straight = at_1_mm(label_map)
    one = label(label_map == 1, straight)[0] == 1
    part, scan = cut_by(one, **given)
    most = 0.02 if given["step"] < 5 else 0.05
    assert volume_ml(part, scan) == pytest.approx(np.count_nonzero(one) / 1000, rel=most)
    centre = np.argwhere(one).mean(0)[::-1]
    assert centroid_lps_mm(part, scan) == pytest.approx(centre, abs=0.3 * given["step"])
    labels, _ = label(part, scan)
    main = np.count_nonzero(labels == 1) / np.count_nonzero(part)
    assert main > 0.97


def test_the_diameter_is_that_of_the_hulls_corners(label_map):
    """Maximum over all pairs of pixels on every slice, without a hull; a pixel is 1 mm wide."""
    mask = label(label_map == 2, at_1_mm(label_map))[0] == 1
    longest = 0.0
    for plane in mask[mask.any((1, 2))]:
        edge = np.argwhere(plane & ~ndimage.binary_erosion(plane))
        longest = max(longest, float(np.hypot(*(edge[:, None] - edge).transpose(2, 0, 1)).max()))
    assert longest < max_diameter_mm(mask, at_1_mm(mask)) <= longest + np.sqrt(2)


def test_abc2_of_the_real_lesion_by_its_own_three_lengths(label_map):
    """A, B and C computed directly: all pairs of corners, runs along lines 0.1 mm apart, areas."""
    mask = label(label_map == 1, at_1_mm(label_map))[0] == 1
    areas = mask.sum((1, 2))
    plane = ndimage.binary_fill_holes(mask[areas.argmax()])
    edge = np.argwhere(plane & ~ndimage.binary_erosion(plane))
    corners = (edge[:, None] + np.array([(0, 0), (0, 1), (1, 0), (1, 1)])).reshape(-1, 2)
    apart = corners[:, None] - corners
    lengths = np.hypot(*apart.transpose(2, 0, 1))
    along = apart[np.unravel_index(lengths.argmax(), lengths.shape)] / lengths.max()
    steps = np.arange(-300, 300, 0.05)[:, None] * np.array([-along[1], along[0]])
    b_mm = 0.0
    for place in np.arange((corners @ along).min(), (corners @ along).max(), 0.1):
        line = np.floor(place * along + steps).astype(int)
        inside = ((line >= 0) & (line < plane.shape)).all(1)
        inside[inside] = plane[tuple(line[inside].T)]
        ends = np.flatnonzero(np.diff(np.concatenate([[0], inside, [0]])))
        b_mm = max(b_mm, 0.05 * int(np.diff(ends)[::2].max(initial=0)))
    relative = areas / areas.max()
    c_mm = (relative > 0.75).sum() + ((relative >= 0.25) & (relative <= 0.75)).sum() / 2
    assert abc2_ml(mask, at_1_mm(mask)) == pytest.approx(lengths.max() * b_mm * c_mm / 2000, rel=0.02)
