"""The images of one result: each is drawn once, whether for a file, the report or the PDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strokeseg.imaging.components import Labels
from strokeseg.outputs.images import midline_image, montage, orthogonal_planes, scene_views, slice_images, slice_stack
from strokeseg.outputs.images.slice_stack import SliceStack
from strokeseg.result import Findings
from strokeseg.scan import Scan
from strokeseg.scene import Scene


@dataclass(frozen=True)
class ResultImages:
    """The images of a result, each drawn at its first use.

    Attributes
    ----------
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions.
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion.
    findings : Findings
        The measurements.
    scene : Scene, optional
        The meshes; None if there are none.
    """

    scan: Scan
    mask: NDArray[np.bool_]
    labels: Labels
    findings: Findings
    scene: Scene | None = None

    @cached_property
    def key_slices(self) -> dict[int, Image.Image]:
        """The key slices by index (:func:`strokeseg.outputs.images.slice_images.choose_key_slices`)."""
        chosen = slice_images.choose_key_slices(self.labels)
        return {index: slice_images.draw_key_slice(self.scan, self.mask, index) for index in chosen}

    @cached_property
    def midline(self) -> Image.Image | None:
        """The slice on which the midline shift was measured; None if it was not measured."""
        return midline_image.draw_midline_shift(self.scan, self.mask, self.findings)

    @cached_property
    def montage(self) -> Image.Image:
        """All slices in one image."""
        return montage.draw_montage(self.scan, self.mask)

    @cached_property
    def lesion_planes(self) -> list[Image.Image]:
        """Three planes through each of the largest lesions."""
        return orthogonal_planes.draw_lesion_planes(self.scan, self.labels)

    @cached_property
    def views(self) -> Image.Image | None:
        """The scene from four sides; None without any surface."""
        return None if self.scene is None else scene_views.draw_views(self.scan, self.scene)

    @cached_property
    def slice_stack(self) -> SliceStack:
        """All slices, for the viewer of the report."""
        return slice_stack.encode_stack(self.scan, self.mask)

    def draw_for_pages(self, formats: Sequence[str]) -> None:
        """Draw the images of the report and the PDF, which are written last, while other files are being written.

        Parameters
        ----------
        formats : sequence of str
            "report", "pdf" and "pdf-dicom" are used; others are ignored.
        """
        if "report" in formats:
            _ = self.slice_stack, self.midline
        if {"pdf", "pdf-dicom"} & set(formats):
            _ = self.key_slices, self.midline, self.montage, self.lesion_planes, self.views

    def save(self, folder: Path, formats: Sequence[str]) -> dict[str, str]:
        """Write the images of some formats as PNG.

        Parameters
        ----------
        folder : Path
            Where to write them.
        formats : sequence of str
            "keys" (`key_1.png`, ..., and `midline.png` if a shift was measured), "montage", "planes" (`planes_1.png`,
            ...) and "views" are used; others are ignored.

        Returns
        -------
        dict of str to str
            File names by key of `result.json`.
        """
        images: dict[str, Image.Image | None] = {}
        if "keys" in formats:
            images |= {f"key_{number}": image for number, image in enumerate(self.key_slices.values(), 1)}
            images["midline"] = self.midline
        if "montage" in formats:
            images["montage"] = self.montage
        if "planes" in formats:
            images |= {f"planes_{number}": image for number, image in enumerate(self.lesion_planes, 1)}
        if "views" in formats:
            images["views"] = self.views
        available = {name: image for name, image in images.items() if image is not None}
        for name, image in available.items():
            image.save(folder / f"{name}.png", compress_level=2)
        return {name: f"{name}.png" for name in available}
