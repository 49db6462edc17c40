"""The three of the ICH score's five questions that an image can answer."""

from __future__ import annotations

from collections.abc import Sequence

from strokeseg.result import IchScoreParts, Lesion

LARGE_ML = 30.0
"""From this volume on the ICH score counts a point (Hemphill et al., Stroke 2001;32:891)."""


def compute_ich_score_parts(lesions: Sequence[Lesion], intraventricular: bool | None) -> IchScoreParts | None:
    """Answer what the ICH score asks of a bleed in the brain: 30 ml or more, in the ventricles, below the tentorium.

    The score is one of bleeds in the brain's tissue. What lies outside of the brain is no part of it; blood in the
    ventricles is its own question, and counts neither to the volume nor to the place of the bleed's origin.

    Parameters
    ----------
    lesions : sequence of Lesion
        Each with its place and volumes.
    intraventricular : bool or None
        Whether blood lies in the ventricles.

    Returns
    -------
    IchScoreParts or None
        None without a lesion, or where all of them lie outside of the brain. The volume is None where one is not
        known; the place is None where it is not told, or where a lesion lies on both sides of the tentorium.

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
