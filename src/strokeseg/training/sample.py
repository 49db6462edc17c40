"""A slice for training, and the test patients, who must not be trained on.

A mask is uint8: 0 no blood, 1 blood, 2 unknown (left out of the loss). A slice with boxes has mask 1 inside its boxes
and ``boxed`` True; one that is known to hold blood, but not where, has mask 2 all over and ``labelled`` False. A slice
of a whole scan has its neighbouring slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strokeseg.segmentation.preprocess import HeadSquare

UNKNOWN = 2
TEST_PATIENTS = frozenset(
    f"ctich:{number:03d}"
    for number in (
        *(49, 50, 51, 52, 54, 56, 57, 60, 61, 65, 66, 71, 73, 75, 76, 77, 78, 79, 80, 81, 87, 91, 92, 94, 99, 100, 101),
        *(106, 107, 114, 115, 120, 121, 125),
    )
)
"""CT-ICH patients who must not be trained on: 18 with blood, 16 without."""


@dataclass(frozen=True)
class Sample:
    """A slice for training.

    Attributes
    ----------
    source, name : str
        The data set, and the slice's name in it.
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units.
    mask : ndarray of uint8, shape (rows, columns)
        0 no blood, 1 blood (or inside a box), 2 unknown.
    patient : str
        The patient; unique over all sources that may share patients.
    boxed : bool, default: False
        The mask holds boxes around the blood, not outlines.
    labelled : bool, default: True
        False where only the picture as a whole is known to hold blood; the mask is then 2 all over.
    below, above : ndarray of int16, shape (rows, columns), optional
        The neighbouring slices of a whole scan; None where there is none.
    square : HeadSquare, optional
        The square around the head in all slices of a whole scan, as segmentation finds it; None for a single slice.
    """

    source: str
    name: str
    patient: str
    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    boxed: bool = False
    labelled: bool = True
    below: NDArray[np.int16] | None = None
    above: NDArray[np.int16] | None = None
    square: HeadSquare | None = None

    @property
    def positive(self) -> bool:
        """Whether the slice holds blood, outlined or not."""
        return not self.labelled or bool((self.mask == 1).any())
