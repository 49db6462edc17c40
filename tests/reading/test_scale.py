"""Values that are no Hounsfield units are refused with what was seen, or read as what they are, with a remark."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import strokeseg
from data_sets import find_case, find_data_set
from phantoms import head_series
from strokeseg.errors import NoHounsfield, NotHead
from strokeseg.reading import gate, read_one, scale
from strokeseg.scan import Scan

SAMPLE = Path(__file__).parents[2] / "samples/ge_head.zip"


def stretch(low, high, top=255):
    """Return what maps HU through a window to the grey levels 0 to ``top``."""
    return lambda hu: np.clip((hu - low) / (high - low), 0, 1) * top


def add(offset):
    return lambda hu: hu + offset


def multiply(factor):
    return lambda hu: hu * factor


def clip(low, high):
    return lambda hu: np.clip(hu, low, high)


@pytest.fixture(scope="module")
def real_scan():
    """A real scan without the remarks and the header of its series, as a volume would hold it."""
    return replace(read_one(SAMPLE), kind="nifti", source=None, remarks=())


@pytest.fixture(scope="module")
def half_scan():
    """The scan of the shared cases: rsna_volume at half size."""
    scan = read_one(find_data_set("rsna_volume/series.zip"))
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    planes = replace(scan.planes, pixel_spacing_mm=(2 * row_mm, 2 * column_mm))
    return replace(scan, hu=scan.hu[:, ::2, ::2].copy(), planes=planes, kind="nifti", source=None, remarks=())


def change(scan, function):
    values = np.rint(function(scan.hu.astype(np.float64)))
    return replace(scan, hu=np.clip(values, -32768, 32767).astype(np.int16))


def collect_remarks(scan):
    return {remark.code: remark.message for remark in scan.remarks}


REFUSED = {
    "doubled": (multiply(2), "air lies at -1999 in place of -1000, brain at 63"),
    "halved": (multiply(0.5), "air lies at -500 .* one Hounsfield unit is about 0.5 of a value"),
    "a tenth too large": (multiply(1.1), "about 1.1 of a value"),
    "8 bits of -1000 to 1000": (stretch(-1000, 1000), "about 0.12 of a value|grey levels of an unknown window"),
    "8 bits of -100 to 300": (stretch(-100, 300), "grey levels of an unknown window"),
    "40 too high, air cut off": (lambda hu: np.maximum(hu, -200) + 40, "brain lies at 7. .* air is cut off at -160"),
    "cut at 60": (clip(0, 60), "the values end at 60, at 11% of the pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_values_on_another_scale_are_refused_with_what_was_seen(real_scan, name):
    function, seen = REFUSED[name]
    with pytest.raises(NoHounsfield, match=seen) as caught:
        gate.check_scan(change(real_scan, function))
    assert "Export the series again" in caught.value.remedy


@pytest.mark.parametrize("offset", [100, 40, -24, -100, 512])
def test_an_offset_on_which_air_and_brain_agree_is_taken_back(real_scan, offset):
    scan = gate.check_scan(change(real_scan, add(offset)))
    assert np.abs(scan.hu.astype(int) - real_scan.hu).max() <= 2
    assert "Brain is now at 31 HU" in collect_remarks(scan)["hounsfield-offset"] and scan.calibrated


@pytest.mark.parametrize(
    ("low", "high", "top"), [(0, 80, 255), (-20, 100, 255), (-40, 120, 255), (0, 100, 255), (0, 80, 4095)]
)
def test_grey_levels_of_a_narrow_window_are_read_as_a_picture_of_that_window(real_scan, low, high, top):
    scan = gate.check_scan(change(real_scan, stretch(low, high, top)))
    assert not scan.calibrated and scan.window == pytest.approx(((low + high) / 2, high - low), abs=2)
    seen = (real_scan.hu > low) & (real_scan.hu < high)
    assert np.abs(scan.hu.astype(int) - real_scan.hu)[seen].max() <= 3
    assert {"values-as-grey-levels", "uncalibrated"} <= set(collect_remarks(scan))
    assert scan.spacing_known and scan.weights_mm is not None


@pytest.mark.parametrize(("low", "high"), [(0, 80), (-20, 100), (-1024, 120)])
def test_hounsfield_units_that_end_below_bone_are_read_as_a_picture(real_scan, low, high):
    """They showed no head before: without bone there is no skull."""
    scan = gate.check_scan(change(real_scan, clip(low, high)))
    assert not scan.calibrated and scan.window[0] + scan.window[1] / 2 == high
    assert f"The values end at {high} HU" in collect_remarks(scan)["values-as-grey-levels"]


RIGHT = {
    "as it is": lambda hu: hu,
    "padded": lambda hu: np.where(hu < -1020, -2000, hu),
    "air of one value": lambda hu: np.where(hu < -900, -1000, hu),
    "cut at -200": clip(-200, 3000),
    "cut at -100": clip(-100, 3000),
    "cut at 0 and 255": clip(0, 255),
    "cut at -1000": clip(-1000, 3000),
    "an infant's or a swollen brain": lambda hu: np.where((hu > 0) & (hu < 60), hu - 10, hu),
    "metal": lambda hu: np.where(hu > 1000, 3 * hu, hu),
    "10 too low": add(-10),
    "10 too high": add(10),
}


@pytest.mark.parametrize("name", RIGHT)
def test_hounsfield_units_within_the_tolerance_stay_as_they_are(real_scan, name):
    changed = change(real_scan, RIGHT[name])
    assert scale.check_scale(changed) is changed


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_a_large_bleed_is_no_other_scale(real_scan, share):
    """70 HU in a part of the brain, up to a half of it."""
    columns = np.arange(512)
    inside = (real_scan.hu > 0) & (real_scan.hu < 60) & (columns > np.quantile(columns, 0.65 - share / 2))
    inside &= columns < np.quantile(columns, 0.65 + share / 2)
    bleeding = replace(real_scan, hu=np.where(inside, 70, real_scan.hu).astype(np.int16))
    assert scale.check_scale(bleeding) is bleeding


def test_padding_with_the_noise_of_air_is_no_air():
    """An image of DICOM's WG04: lossless, with -2048 to -2046 outside of the field of view."""
    scan = read_one(find_case("06_codestream_padded_with_ff/CT2_JLSN"))
    assert scan.hu.min() < -2000 and "hounsfield-offset" not in collect_remarks(scan)


def test_what_is_no_head_on_another_scale_is_no_head():
    """A disc of water in a shell."""
    rows, columns = np.mgrid[:128, :128] - 63.5
    noise = np.random.default_rng(0).normal(0, 10, (5, 128, 128))
    radius = np.hypot(rows, columns)
    hu = np.select([radius < 5, radius < 50], [900, 100], -900) + noise
    with pytest.raises(NotHead):
        gate.check_scan(Scan.from_array(hu, (5.0, 1.5, 1.5), kind="nifti"))


@pytest.mark.parametrize("name", ["u8_0_80", "u8_m1000_1000"])
def test_the_shared_cases_are_refused_or_read_as_pictures(name):
    path = find_case(f"05_not_hounsfield_scale/{name}.nii.gz")
    if name == "u8_0_80":
        assert not read_one(path).calibrated
        return
    with pytest.raises(NoHounsfield):
        read_one(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "function", [add(100), add(40), add(-24), stretch(-40, 120), stretch(-20, 100), stretch(0, 80)]
)
def test_a_repaired_scale_gives_the_volume_of_the_true_one(half_scan, function):
    """Within a twelfth of the volume by the true values; without a check a third more, a third, or nothing."""
    true_ml = strokeseg.segment(half_scan).findings.volume_ml
    volume_ml = strokeseg.segment(gate.check_scan(change(half_scan, function))).findings.volume_ml
    assert true_ml > 15 and volume_ml == pytest.approx(true_ml, rel=1 / 12)


@pytest.mark.slow
def test_the_check_takes_a_thirtieth_of_the_time_for_reading(tmp_path):
    z_mm = tuple(np.arange(-60, 60, 3.0))
    geometry = head_series.Geometry(z_mm=z_mm, shape=(512, 512), spacing_mm=(0.45, 0.45))
    head_series.write_series(tmp_path, head_series.make_datasets(geometry))
    scan = read_one(tmp_path)

    def measure(function, argument):
        began = time.process_time()
        function(argument)
        return time.process_time() - began

    pairs = [(measure(scale.check_scale, scan), measure(read_one, tmp_path)) for _ in range(7)]
    assert np.median([check / reading for check, reading in pairs]) < 0.03
