"""The three of the five components of the ICH score that an image shows."""

from __future__ import annotations

from collections.abc import Sequence

from strokeseg.result import IchScoreParts, Lesion

LARGE_ML = 30.0
"""Volume from which the ICH score counts one point (Hemphill et al., Stroke 2001;32:891)."""


def compute_ich_score_parts(lesions: Sequence[Lesion], intraventricular: bool | None) -> IchScoreParts | None:
    """Compute the ICH score's components: 30 ml or more, blood in the ventricles, origin below the tentorium.

    The score applies to hemorrhage in the brain tissue. Extra-axial lesions are excluded. Blood in the ventricles is a
    component of its own and counts neither to the volume nor to the origin.

    Parameters
    ----------
    lesions : sequence of Lesion
        Lesions with location and volumes.
    intraventricular : bool or None
        Whether the ventricles contain blood.

    Returns
    -------
    IchScoreParts or None
        None without a lesion, or if all lesions are extra-axial. The volume is None if a lesion's volume is unknown.
        The origin is None if it is unknown, or if a lesion lies on both sides of the tentorium.

    References
    ----------
    Hemphill JC et al. The ICH score. Stroke 2001;32:891-897.
    """
    within = [lesion for lesion in lesions if lesion.place != "extra-axial"]
    if not within:
        return None
    tissue = [lesion for lesion in within if lesion.place != "ventricle"]
    volumes = [_tissue_volume_ml(lesion) for lesion in tissue]
    total = sum(volume for volume in volumes if volume is not None)
    levels = {lesion.tentorium for lesion in tissue}
    below = True if "infratentorial" in levels else False if levels == {"supratentorial"} else None
    return IchScoreParts(
        volume_30_ml_or_more=None if None in volumes else total >= LARGE_ML,
        intraventricular=intraventricular,
        infratentorial=below,
    )


def _tissue_volume_ml(lesion: Lesion) -> float | None:
    return None if lesion.volume_ml is None else lesion.volume_ml - (lesion.intraventricular_ml or 0.0)
