import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data_sets import find_case
from strokeseg.reading import read_one
from strokeseg.scan import Planes, Scan
from strokeseg.segmentation import load_engine, predict
from strokeseg.segmentation.postprocess import (
    MAX_SURROUNDING_BONE,
    sample_component_and_surroundings,
    surrounding_bone_share,
)
from strokeseg.segmentation.preprocess import (
    HeadSquare,
    apply_window,
    crop_square,
    find_head_square,
    make_network_input,
    resample_to_slice,
)


def make_head(shape=(6, 160, 160), centre=(80, 70), radii=(66, 54)):
    """Skull (1000 HU) around brain (35 HU) in air, an ellipse on every slice."""
    rows, columns = np.indices(shape[1:])
    distance = np.hypot((rows - centre[0]) / radii[0], (columns - centre[1]) / radii[1])
    plane = np.where(distance < 0.9, 35, np.where(distance < 1, 1000, -1000))
    return np.repeat(plane[None], shape[0], axis=0).astype(np.int16)


def add_lesion(hu, slices, rows, columns, value=70):
    hu[slices, rows, columns] = value
    return hu


def test_the_square_holds_the_head_and_leaves_the_headrest_out():
    hu = make_head()
    hu[:, 150:154, 10:150] = 300
    square = find_head_square(hu)
    assert square.row <= 80 - 66 and square.row + square.side >= 80 + 66
    assert square.column <= 70 - 54 and square.column + square.side >= 70 + 54
    assert square.side < 2 * 66 * 1.15


@pytest.mark.parametrize("position", [0, 4, 8])
def test_a_slice_through_the_shoulders_does_not_move_the_square(position):
    """A trunk of 400 x 220 mm of fat and two muscles, on one slice of a head of 108 x 132 mm."""
    head = np.full((8, 400, 440), -1000, dtype=np.int16)
    head[:, 120:280, 140:300] = make_head((8, 160, 160))
    shoulders = np.full((400, 440), -1000, dtype=np.int16)
    shoulders[90:310, 20:420] = -90
    shoulders[150:280, 22:150] = shoulders[150:280, 290:418] = 60
    with_shoulders = np.insert(head, position, shoulders, axis=0)
    assert find_head_square(with_shoulders, (1.0, 1.0)) == find_head_square(head, (1.0, 1.0))
    assert find_head_square(head, (1.0, 1.0)) == find_head_square(head)


def test_shoulders_below_a_head_leave_its_volume():
    """The head alone, without the three slices of shoulders, has 17.9 ml; with them it had 15.3 ml."""
    path = find_case("14_whole_body_halves_the_head/head_and_3_shoulder_slices.nii.gz")
    scan = read_one(path)
    assert find_head_square(scan.hu, scan.pixel_spacing_mm) == find_head_square(scan.hu[3:], scan.pixel_spacing_mm)


def test_a_scan_without_a_head_gives_the_whole_picture():
    assert find_head_square(np.full((2, 100, 140), -1000, dtype=np.int16)) == HeadSquare(-20, 0, 140)


def test_a_square_over_the_edge_is_filled_with_air():
    cropped = crop_square(np.full((10, 10), 7), HeadSquare(-2, 4, 8), -1024)
    assert cropped.shape == (8, 8)
    assert (cropped[:2] == -1024).all() and (cropped[:, 6:] == -1024).all() and (cropped[2:, :6] == 7).all()


def test_the_window_maps_its_ends_to_0_and_1():
    assert apply_window(np.array([-100, 0, 20, 80, 500])).tolist() == [0, 0, 0.25, 1, 1]


@pytest.mark.parametrize("side", [90, 128, 301])
def test_the_output_returns_to_its_position(side):
    """The centre of mass of a blob, resampled to the network's grid and back, moves less than 0.2 pixels."""
    rows, columns = np.indices((320, 300))
    spot = np.exp(-((rows - 151.0) ** 2 + (columns - 133.0) ** 2) / (2 * 6.0**2))
    square = HeadSquare(151 - side // 2, 133 - side // 2, side)
    image = make_network_input((spot * 80).astype(np.int16), square, 128)
    region, values = resample_to_slice((image[0, 0] + 1) / 2, square, spot.shape)
    back = np.zeros(spot.shape)
    back[region] = values
    assert np.average(rows, weights=back) == pytest.approx(np.average(rows, weights=np.rint(spot * 80)), abs=0.2)
    assert np.average(columns, weights=back) == pytest.approx(np.average(columns, weights=np.rint(spot * 80)), abs=0.2)


def test_upright_twice_gives_the_scan_as_it_was():
    planes = Planes(np.zeros((1, 3)), np.array([-1.0, 0, 0]), np.array([0, -1.0, 0]), (1, 1), 5)
    scan = Scan(np.arange(12, dtype=np.int16).reshape(1, 3, 4), planes)
    turned = planes.turn_upright(scan.hu)
    assert turned[0, 0, 0] == scan.hu[0, 2, 3]
    assert np.array_equal(planes.turn_upright(turned), scan.hu)


def test_a_bright_lesion_is_marked_at_its_position(models_folder):
    hu = add_lesion(make_head(), slice(2, 5), slice(70, 95), slice(50, 80))
    scan = Scan.from_array(hu, (5, 1, 1))
    prediction = predict(scan, load_engine("threshold"))
    blood = hu == 70
    overlap = 2 * (prediction.mask & blood).sum() / (prediction.mask[:, 40:120, 40:100].sum() + blood.sum())
    assert prediction.probability.dtype == np.float16 and prediction.probability.shape == hu.shape
    assert (prediction.mask & blood).sum() > 0.9 * blood.sum()
    assert overlap > 0.9


def test_two_runs_give_the_same_bits(models_folder):
    scan = Scan.from_array(add_lesion(make_head(), slice(1, 3), slice(60, 90), slice(60, 90)), (5, 1, 1))
    first, second = predict(scan, load_engine("threshold")), predict(scan, load_engine("threshold"))
    assert first.probability.tobytes() == second.probability.tobytes()
    assert first.mask.tobytes() == second.mask.tobytes()


def test_a_scan_lying_face_down_is_seen_face_up(models_folder):
    """The same head stored with its axes turned gives the same answer, on its own grid."""
    hu = add_lesion(make_head(), slice(2, 5), slice(70, 95), slice(50, 80))
    plain = Scan.from_array(hu, (5, 1, 1))
    turned_planes = Planes(
        plain.planes.positions_mm + np.array([159, 159, 0]), np.array([-1.0, 0, 0]), np.array([0, -1.0, 0]), (1, 1), 5
    )
    turned = Scan(np.ascontiguousarray(hu[:, ::-1, ::-1]), turned_planes)
    expected, prediction = predict(plain, load_engine("threshold")), predict(turned, load_engine("threshold"))
    assert expected.mask.any()
    assert np.array_equal(prediction.probability[:, ::-1, ::-1], expected.probability)
    assert np.array_equal(prediction.mask[:, ::-1, ::-1], expected.mask)


def test_specks_under_the_cards_bound_are_dropped_and_counted(models_folder):
    """At 5 x 0.5 x 0.5 mm a pixel is 1.25 mm³: 60 pixels are 75 mm³ and go, 100 are 125 mm³ and stay."""
    from strokeseg.segmentation.models import load_card
    from strokeseg.segmentation.postprocess import extract_lesion_mask

    probability = np.zeros((4, 50, 50), dtype=np.float16)
    probability[1, 5:11, 5:15] = 0.9
    probability[2, 30:40, 30:40] = 0.9
    scan = Scan.from_array(np.zeros((4, 50, 50)), (5, 0.5, 0.5))
    lesions = extract_lesion_mask(probability, scan, HeadSquare(0, 0, 50), load_card("threshold"))
    assert lesions.dropped == 1
    assert lesions.mask.sum() == 100 and lesions.mask[2, 35, 35]


def test_without_a_spacing_specks_are_measured_by_the_heads_square(models_folder):
    """A square of 500 pixels has 250,000; 4e-4 of it are 100."""
    from strokeseg.segmentation.models import load_card
    from strokeseg.segmentation.postprocess import extract_lesion_mask

    probability = np.zeros((1, 60, 60), dtype=np.float16)
    probability[0, 5:14, 5:16] = 0.9
    probability[0, 30:40, 30:41] = 0.9
    scan = Scan.from_array(np.zeros((1, 60, 60)))
    lesions = extract_lesion_mask(probability, scan, HeadSquare(0, 0, 500), load_card("threshold"))
    assert lesions.dropped == 1 and lesions.mask.sum() == 110


def test_the_mirrored_answer_is_turned_back(models_folder):
    hu = add_lesion(make_head(), slice(2, 5), slice(70, 95), slice(40, 60))
    scan = Scan.from_array(hu, (5, 1, 1))
    once, twice = (predict(scan, load_engine("threshold"), flip=flip).mask for flip in (False, True))
    assert 2 * (once & twice).sum() / (once.sum() + twice.sum()) > 0.97


def test_progress_counts_every_slice(models_folder):
    calls = []
    predict(
        Scan.from_array(make_head(), (5, 1, 1)), load_engine("threshold"), progress=lambda *counts: calls.append(counts)
    )
    assert calls == [(index, 6) for index in range(1, 7)]


def test_pixels_denser_than_blood_get_probability_0(models_folder):
    """The handmade network marks everything bright, also skull and calcification; Hounsfield units exclude both."""
    hu = add_lesion(make_head(), slice(2, 5), slice(70, 95), slice(50, 80))
    hu[3, 100:110, 60:70] = 150
    prediction = predict(Scan.from_array(hu, (5, 1, 1)), load_engine("threshold"))
    assert not prediction.probability[hu > 110].any()
    assert prediction.mask[3, 80, 60]
    picture = predict(Scan.from_array(hu, (5, 1, 1), calibrated=False), load_engine("threshold"))
    assert picture.mask[3, 105, 65]


def test_what_lies_outside_of_the_skull_is_dropped(models_folder):
    """Of two components of equal density and size, the one in the scalp is dropped, the one in the brain stays."""
    hu = add_lesion(make_head(), slice(2, 5), slice(70, 90), slice(60, 80))
    hu[2:5, 70:90, 130:150] = 70
    prediction = predict(Scan.from_array(hu, (5, 1, 1)), load_engine("threshold"))
    assert prediction.mask[3, 80, 70] and not prediction.mask[3, 80, 140]
    assert prediction.probability[3, 80, 140] > 0.5
    assert prediction.dropped_specks >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("bhsd_mini", 102), ("mbhseg25_mini", 100)])
def test_no_drawn_lesion_is_rejected_as_bone(shared_data, name, count):
    shares = []
    for path in sorted((shared_data / name / "images_hu0_255").iterdir()):
        scan = Scan.from_array(np.asarray(Image.open(path))[None], (5, 0.49, 0.49))
        truth = np.asarray(Image.open(shared_data / name / "masks_binary" / path.name))[None] > 127
        labels, _ = ndimage.label(truth, structure=np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel())
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            if sizes[number] > 80:
                shares.append(surrounding_bone_share(sample_component_and_surroundings(labels, number, box, scan)[1]))
    assert len(shares) == count
    assert max(shares) < 0.54 < MAX_SURROUNDING_BONE


def test_what_bone_surrounds_is_dropped(models_folder):
    """Below the vertex a slice contains both bone and brain; blood at the skull has bone on one side only."""
    hu = add_lesion(make_head((8, 160, 160)), slice(2, 5), slice(70, 95), slice(24, 34))
    hu[7] = np.where(hu[0] > -1000, 1000, -1000)
    hu[7, 70:90, 60:80] = 75
    prediction = predict(Scan.from_array(hu, (5, 1, 1)), load_engine("threshold"))
    assert prediction.probability[7, 80, 70] > 0.5 and not prediction.mask[7].any()
    assert prediction.mask[3, 80, 29]
