"""Components of the ICH score, as Hemphill's paper defines them for hemorrhage in the brain tissue."""

import pytest

from strokeseg.measurements.ich_score import compute_ich_score_parts
from strokeseg.result import Lesion


def lesion(ml, place="deep", tentorium="supratentorial", in_ventricles_ml=0.0):
    return Lesion(
        id=1,
        pixels=1,
        slices=(0, 0),
        probability=None,
        volume_ml=ml,
        place=place,
        tentorium=tentorium,
        intraventricular_ml=in_ventricles_ml,
    )


@pytest.mark.parametrize(
    ("lesions", "large", "below"),
    [
        ([lesion(29.99)], False, False),
        ([lesion(30.0)], True, False),
        ([lesion(20), lesion(10, "lobar")], True, False),
        # Blood in the ventricles is excluded: of 40 ml with 15 ml in the ventricles, 25 ml count.
        ([lesion(40, in_ventricles_ml=15)], False, False),
        ([lesion(25), lesion(20, "ventricle", in_ventricles_ml=19)], False, False),
        # A subdural of 50 ml beside a bleed of 5 ml.
        ([lesion(50, "extra-axial"), lesion(5, "lobar")], False, False),
        ([lesion(5, "cerebellum", "infratentorial")], False, True),
        ([lesion(5, "brainstem", "infratentorial"), lesion(5)], False, True),
        # A subdural in the posterior fossa is no bleed of the cerebellum.
        ([lesion(5), lesion(9, "extra-axial", "infratentorial")], False, False),
        # Blood of a thalamic bleed that ran down into the fourth ventricle.
        ([lesion(12), lesion(6, "ventricle", "infratentorial", 6)], False, False),
        # Only ventricles: the origin is unknown.
        ([lesion(6, "ventricle", "both", 6)], False, None),
        ([lesion(12, "unsure", "both")], False, None),
        ([lesion(12, "unsure", "unsure")], False, None),
        ([lesion(None)], None, False),
        ([lesion(None), lesion(40)], None, False),
        ([lesion(None, "extra-axial"), lesion(40)], True, False),
        ([lesion(31, in_ventricles_ml=None)], True, False),
    ],
)
def test_the_parts(lesions, large, below):
    parts = compute_ich_score_parts(lesions, True)
    assert (parts.volume_30_ml_or_more, parts.infratentorial, parts.intraventricular) == (large, below, True)
    assert compute_ich_score_parts(lesions, None).intraventricular is None


@pytest.mark.parametrize("lesions", [[], [lesion(50, "extra-axial")], [lesion(50, "extra-axial", "infratentorial")]])
def test_the_score_is_not_asked_without_a_bleed_in_the_brain(lesions):
    assert compute_ich_score_parts(lesions, False) is None
