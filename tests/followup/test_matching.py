"""Bleeds of known place and volume in a head of known pose: what became of each is known beforehand."""

from dataclasses import replace

import numpy as np
import pytest

import strokeseg
from phantoms.two_heads import Head, ml, stack
from strokeseg.dicom_source import DicomSource
from strokeseg.errors import DifferentPatients, InconsistentGeometry, UsageError
from strokeseg.followup import comparability, growth, plane_pairs
from strokeseg.result import Remark
from strokeseg.scan import Scan

BALLS = (((25, -10, 20), 18), ((-30, 30, 15), 9), ((-20, -40, 30), 6))
TURNED = {"turn": (17, -12, 21), "shift": (12, -18, 9)}


@pytest.fixture(scope="module")
def before():
    return Head(BALLS).simulate_scan(stack())


def compare_with(before, bleeds, where=None, **more):
    where = stack(np.arange(-70, 96, 4.0), 0.95) if where is None else where
    return strokeseg.compare(before, Head(bleeds, **more).simulate_scan(where, seed=1))


def kinds(comparison):
    return {(each.kind, tuple(each.earlier), tuple(each.later)) for each in comparison.change.lesions}


@pytest.mark.parametrize(
    ("where", "pose"),
    [
        (stack(), {}),
        (stack(np.arange(-70, 96, 5.0), 0.9), TURNED),
        (stack(np.arange(-66, 110, 5.0), tilt_deg=18), {"turn": (5, 3, -6), "shift": (3, 2, 8)}),
        (stack(np.arange(-66, 96, 2.5), 0.8), {"turn": (-10, 4, 0)}),
    ],
)
def test_the_same_head_in_another_pose_and_on_other_planes_has_not_changed(before, where, pose):
    comparison = compare_with(before, BALLS, where, **pose)
    assert kinds(comparison) == {("same", (1,), (1,)), ("same", (2,), (2,)), ("same", (3,), (3,))}
    assert abs(comparison.change.change_ml) < 0.03 * sum(ml(radius) for _, radius in BALLS)
    assert comparison.change.growth is False
    # Between the centroids only the sampling of the smallest on 5 mm slices is left.
    assert max(each.apart_mm for each in comparison.change.lesions) < 1.5


def test_the_same_scan_twice_has_not_changed_at_all(before):
    comparison = strokeseg.compare(before, before).change
    assert (comparison.change_ml, comparison.change_percent, comparison.growth) == (0, 0, False)
    assert all(each.kind == "same" and each.change_ml == 0 for each in comparison.lesions)


def test_growth_is_measured(before):
    comparison = compare_with(before, ((BALLS[0][0], 21), *BALLS[1:]), **TURNED)
    truth = ml(21) - ml(18)
    assert comparison.change.change_ml == pytest.approx(truth, rel=0.03)
    assert comparison.change.growth is True
    assert ("grown", (1,), (1,)) in kinds(comparison)
    shrunk = strokeseg.compare(comparison.later, before)
    assert shrunk.change.change_ml == pytest.approx(-truth, rel=0.03)
    assert shrunk.change.growth is False and ("shrunk", (1,), (1,)) in kinds(shrunk)


def test_new_and_gone_are_told_apart(before):
    comparison = compare_with(before, (*BALLS[:2], ((10, 50, 20), 7)), **TURNED)
    assert kinds(comparison) == {("same", (1,), (1,)), ("same", (2,), (2,)), ("new", (), (3,)), ("gone", (3,), ())}
    by_kind = {each.kind: each for each in comparison.change.lesions}
    assert by_kind["new"].change_ml == pytest.approx(ml(7), rel=0.05) and by_kind["new"].change_percent is None
    assert by_kind["gone"].change_ml == pytest.approx(-ml(6), rel=0.08)


def test_merged_split_and_regrouped_are_told_apart():
    two = (((30, -10, 20), 9), ((30, 12, 20), 9))
    one = (*two, ((30, 1, 20), 9))
    apart, together = Head(two).simulate_scan(stack()), Head(one).simulate_scan(stack())
    assert kinds(strokeseg.compare(apart, together)) == {("merged", (1, 2), (1,))}
    assert kinds(strokeseg.compare(together, apart)) == {("split", (1,), (1, 2))}
    # A row of three, of which once the first two and once the last two are joined.
    row = [((30, y, 20), 8) for y in (-30, 0, 30)]
    first = Head((*row, ((30, -15, 20), 8))).simulate_scan(stack())
    last = Head((*row, ((30, 15, 20), 8))).simulate_scan(stack())
    assert kinds(strokeseg.compare(first, last)) == {("regrouped", (1, 2), (1, 2))}


def test_a_speck_that_shares_no_pixel_but_lies_beside_is_the_same():
    one = Head((((20, 0, 20), 3),)).simulate_scan(stack(np.arange(-66, 96, 2.0)))
    other = Head((((20, 8, 20), 3),)).simulate_scan(stack(np.arange(-66, 96, 2.0)))
    far = Head((((20, 30, 20), 3),)).simulate_scan(stack(np.arange(-66, 96, 2.0)))
    assert kinds(strokeseg.compare(one, other)) == {("same", (1,), (1,))}
    assert kinds(strokeseg.compare(one, far)) == {("gone", (1,), ()), ("new", (), (1,))}


def test_bleeding_beyond_the_other_scan_is_not_called_new(before):
    low = Head(BALLS).simulate_scan(stack(np.arange(-66, 34, 4.0)))
    high = Head((*BALLS, ((0, 20, 55), 8))).simulate_scan(stack())
    comparison = strokeseg.compare(low, high)
    by_kind = {each.kind: each for each in comparison.change.lesions}
    outside = by_kind["not-covered"]
    assert outside.later_ml == pytest.approx(ml(8), rel=0.05) and outside.change_ml is None
    assert "new" not in by_kind
    # The largest reaches to 38 mm, the low scan to 34: its change cannot be told, and so not that there was no growth.
    assert by_kind["cut"].change_ml is None
    assert comparison.change.growth is None
    assert comparison.change.later_ml < high.findings.volume_ml - outside.later_ml
    assert "lesion-not-covered" in {remark.code for remark in comparison.remarks}


def test_nothing_wholly_shown_gives_no_change():
    ball = (((0, 0, 35), 12),)
    comparison = strokeseg.compare(
        Head(ball).simulate_scan(stack(np.arange(-66, 34, 4.0))), Head(ball).simulate_scan(stack())
    )
    assert comparison.change.change_ml is None and comparison.change.growth is None
    assert "change-unknown" in {remark.code for remark in comparison.remarks}


def test_bleeding_after_none_is_new_and_no_growth():
    none, some = Head().simulate_scan(stack()), Head(BALLS[:1]).simulate_scan(stack())
    comparison = strokeseg.compare(none, some)
    assert comparison.change.growth is None and comparison.change.change_percent is None
    assert comparison.change.change_ml == pytest.approx(ml(18), rel=0.03)
    assert "new-bleeding" in {remark.code for remark in comparison.remarks}
    both = strokeseg.compare(none, none)
    assert (both.change.change_ml, both.change.growth, both.change.lesions) == (0, False, [])


@pytest.mark.parametrize(
    ("before_ml", "after_ml", "grown"),
    [
        (20, 26.0, False),
        (20, 26.1, True),
        (60, 66.1, True),
        (3, 3.99, False),
        (3, 4.01, True),
        (20, 10, False),
        (0, 0, False),
    ],
)
def test_growth_is_more_than_6_ml_or_33_percent(before_ml, after_ml, grown):
    assert growth.has_grown(before_ml, after_ml) is grown


@pytest.mark.parametrize(
    ("ends", "interval", "sure"),
    [
        # 28 to 43 ml in all; what the intervals are is what is tested.
        (((27.5, 28.5), (42, 44)), (13.5, 16.5), True),
        (((20, 36), (36, 50)), (0, 30), False),
    ],
)
def test_the_interval_of_the_change_is_wide_enough_for_both(before, ends, interval, sure):
    later = Head(((BALLS[0][0], 21), *BALLS[1:])).simulate_scan(stack())
    sides = [
        replace(
            side,
            findings=side.findings.model_copy(update={"volume_interval_ml": end, "interval_level": 0.9}),
        )
        for side, end in zip((before, later), ends, strict=True)
    ]
    comparison = strokeseg.compare(*sides).change
    assert comparison.change_interval_ml == pytest.approx(interval)
    assert comparison.interval_level == pytest.approx(0.8)
    assert comparison.growth is True and comparison.growth_sure is sure


def test_heads_of_other_sizes_are_refused_but_compared_when_asked(before):
    other = Head(BALLS, size=(1.09, 0.98, 1.05)).simulate_scan(stack())
    with pytest.raises(DifferentPatients, match=r"different heads.*overlap is 0\.[4-7]") as refused:
        strokeseg.compare(before, other)
    assert refused.value.code == "different-patients" and refused.value.exit_code == 3
    comparison = strokeseg.compare(before, other, same_patient=True)
    assert "alignment-doubtful" in {remark.code for remark in comparison.remarks}


@pytest.mark.slow
def test_real_heads_of_two_patients_are_refused(shared_data):
    """A sanity check: the bound was chosen on analytic heads."""
    sides = []
    for name in ("ge_head_dicom/series.zip", "cranium/cranium_hu.nii.gz", "rsna_volume/series.zip"):
        (scan,) = strokeseg.read(shared_data / name)[:1]
        mask = np.zeros(scan.shape, dtype=bool)
        sides.append(
            replace(Head().simulate_scan(stack()), scan=scan, mask=mask, findings=strokeseg.measure(scan, mask))
        )
    for one, other in ((0, 1), (1, 2), (2, 0)):
        with pytest.raises(DifferentPatients):
            strokeseg.compare(sides[one], sides[other])


def set_attributes(result, deidentified=False, **attributes):
    source = DicomSource(
        attributes=tuple(attributes.items()),
        malformed=(),
        frame_of_reference_uid="",
        frames=(),
        row_cosine=(1, 0, 0),
        column_cosine=(0, 1, 0),
        pixel_spacing_mm=(1, 1),
        thickness_mm=None,
        deidentified=deidentified,
    )
    return replace(result, scan=replace(result.scan, source=source))


def numbered(result, number):
    return set_attributes(result, **({"PatientID": number} if number else {}))


def test_two_patient_numbers_are_refused_without_being_named(before):
    with pytest.raises(DifferentPatients) as refused:
        strokeseg.compare(numbered(before, "SECRET-1"), numbered(before, "SECRET-2"))
    assert "SECRET" not in str(refused.value) + refused.value.remedy
    comparison = strokeseg.compare(numbered(before, "SECRET-1"), numbered(before, "SECRET-2"), same_patient=True)
    assert "other-patient-number" in {remark.code for remark in comparison.remarks}
    assert "SECRET" not in comparison.document.model_dump_json()
    for one, other in (("SECRET-1", "SECRET-1"), ("SECRET-1", "")):
        comparison = strokeseg.compare(numbered(before, one), numbered(before, other))
        assert "other-patient-number" not in {remark.code for remark in comparison.remarks}


@pytest.mark.parametrize(
    ("one", "other", "swapped"),
    [
        (("20240301", "235900"), ("20240302", "000100"), False),
        (("20240302", "000100"), ("20240301", "235900"), True),
        (("20240301", "101500"), ("20240301", "101459.5"), True),
        (("20240301", "101500"), ("20240301", "1015"), False),
        (("20240301", "10"), ("20240301", "101500"), False),
        (("20240301", ""), ("20240301", "101500"), False),
        (("20240301", ""), ("20240229", "101500"), True),
        (("", "101500"), ("20240301", "101459"), False),
    ],
)
def test_scans_in_the_other_order_than_their_dates_are_warned_of(before, one, other, swapped):
    sides = [set_attributes(before, StudyDate=day, StudyTime=hour).scan for day, hour in (one, other)]
    remarks = comparability.check_order(*sides)
    assert [remark.code for remark in remarks] == (["order-doubtful"] if swapped else [])
    assert "2024" not in "".join(remark.message for remark in remarks)


def test_swapped_scans_are_compared_in_the_order_given_with_the_warning(before):
    early, late = set_attributes(before, StudyDate="20240301"), set_attributes(before, StudyDate="20240302")
    assert "order-doubtful" in {remark.code for remark in strokeseg.compare(late, early).remarks}
    assert "order-doubtful" not in {remark.code for remark in strokeseg.compare(early, late).remarks}
    hidden = set_attributes(before, deidentified=True, StudyDate="20240302")
    assert comparability.check_order(hidden.scan, early.scan) == []


def test_findings_of_another_mask_are_refused(before):
    fewer = before.mask.copy()
    fewer[before.mask.any((1, 2)).argmax()] = False
    with pytest.raises(UsageError, match="belong to another mask"):
        strokeseg.compare(before, replace(before, mask=fewer))
    with pytest.raises(UsageError, match="belong to another mask"):
        strokeseg.compare(replace(before, mask=np.zeros_like(fewer)), before)


def test_a_mask_drawn_by_hand_is_compared(before):
    """The largest bleed is rubbed out of the earlier mask: it is then new, with the volume of its ball."""
    drawn = before.mask & (np.indices(before.mask.shape)[2] < 100)
    mine = replace(before, mask=drawn, findings=strokeseg.measure(before.scan, drawn))
    comparison = strokeseg.compare(mine, before).change
    assert sorted(lesion.kind for lesion in comparison.lesions) == ["new", "same", "same"]
    assert comparison.change_ml == pytest.approx(ml(18), rel=0.03)


def test_no_bleeding_on_either_scan_is_no_change():
    nothing = Head(()).simulate_scan(stack())
    comparison = strokeseg.compare(nothing, nothing)
    assert (comparison.change.earlier_ml, comparison.change.later_ml, comparison.change.change_ml) == (0, 0, 0)
    assert (
        comparison.change.lesions == []
        and comparison.change.growth is False
        and comparison.change.change_percent is None
    )


def test_slices_that_lie_in_the_same_place_are_refused(before):
    planes = before.scan.planes
    twice = replace(planes, positions_mm=planes.positions_mm[np.r_[0, 0 : len(planes.positions_mm) - 1]])
    with pytest.raises(InconsistentGeometry, match="same position"):
        strokeseg.compare(replace(before, scan=replace(before.scan, planes=twice)), before)


def test_what_cannot_be_aligned_is_refused(before):
    scan = before.scan
    unknown = replace(before, scan=replace(scan, spacing_known=False))
    with pytest.raises(InconsistentGeometry, match="earlier scan is unknown") as refused:
        strokeseg.compare(unknown, before)
    assert "--spacing" in refused.value.remedy
    one = Scan(scan.hu[:1], replace(scan.planes, positions_mm=scan.planes.positions_mm[:1], thickness_mm=4.0))
    single = replace(before, scan=one, mask=before.mask[:1], findings=strokeseg.measure(one, before.mask[:1]))
    with pytest.raises(InconsistentGeometry, match="later scan has 1 slices"):
        strokeseg.compare(before, single)
    with pytest.raises(UsageError, match="mask"):
        strokeseg.compare(before, replace(before, mask=before.mask[:3]))


def test_other_protocols_are_said(before):
    scan = before.scan
    assert comparability.check_protocols(scan, scan, True) == []
    coarse = Head(BALLS).simulate_scan(stack(np.arange(-66, 110, 8.0), 1.8, tilt_deg=18, shape=(120, 120))).scan
    (remark,) = comparability.check_protocols(scan, coarse, False)
    for word in ("slice spacing 4.0 and 7.6 mm", "pixel spacing 1.10 and 1.80 mm", "tilt 0 and 18", "two models"):
        assert word in remark.message
    sharp = scan.with_remarks(Remark(code="sharp-kernel", severity="warning", message=""))
    contrast = scan.with_remarks(Remark(code="contrast-medium", severity="warning", message=""))
    (remark,) = comparability.check_protocols(sharp, contrast, True)
    assert "a sharp kernel in the earlier scan only" in remark.message
    assert "contrast medium in the later scan only" in remark.message
    (remark,) = comparability.check_protocols(scan, replace(scan, calibrated=False), True)
    assert "grey levels" in remark.message


def test_the_earlier_head_is_cut_on_the_later_planes(before):
    comparison = compare_with(before, BALLS, stack(np.arange(-70, 96, 5.0), 0.9), **TURNED)
    slices = plane_pairs.choose_slices(comparison.earlier, comparison.later, comparison.alignment, comparison.change)
    cut, mask = plane_pairs.resample_to_slices(before, comparison.alignment, comparison.later.scan, slices)
    drawn = comparison.later.mask[slices]
    assert cut.shape == mask.shape == drawn.shape and drawn.any((1, 2)).all()
    # The same bleeds on the same planes, drawn once and resampled once.
    assert 2 * (mask & drawn).sum() / (mask.sum() + drawn.sum()) > 0.9
    inside = mask & drawn
    assert cut.hu[inside].mean() == pytest.approx(65, abs=2)
