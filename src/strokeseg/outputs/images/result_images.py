"""The pictures of one result, each drawn once, whoever shows it: a file of its own, the report, the PDF."""

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
    """What is drawn of a result, when it is first asked for.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        On its grid: all lesions together.
    labels : Labels
        The same shape; 0 is background, 1 the largest lesion.
    findings : Findings
        What was measured.
    scene : Scene, optional
        The meshes; None where none were made.
    """

    scan: Scan
    mask: NDArray[np.bool_]
    labels: Labels
    findings: Findings
    scene: Scene | None = None

    @cached_property
    def key_slices(self) -> dict[int, Image.Image]:
        """The key slices, by their indices (:func:`strokeseg.outputs.images.slice_images.choose_key_slices`)."""
        chosen = slice_images.choose_key_slices(self.labels)
        return {index: slice_images.draw_key_slice(self.scan, self.mask, index) for index in chosen}

    @cached_property
    def midline(self) -> Image.Image | None:
        """The slice on which the midline shift was measured; None where it was not."""
        return midline_image.draw_midline_shift(self.scan, self.mask, self.findings)

    @cached_property
    def montage(self) -> Image.Image:
        """All slices."""
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
        """All slices, for the report's viewer."""
        return slice_stack.encode_stack(self.scan, self.mask)

    def draw_for_pages(self, formats: Sequence[str]) -> None:
        """Draw beside other work what the pages will ask for, which are made when all else is done.

        Parameters
        ----------
        formats : sequence of str
            Of "report", "pdf" and "pdf-dicom"; any other is passed over.
        """
        if "report" in formats:
            _ = self.slice_stack, self.midline
        if {"pdf", "pdf-dicom"} & set(formats):
            _ = self.key_slices, self.midline, self.montage, self.lesion_planes, self.views

    def save(self, folder: Path, formats: Sequence[str]) -> dict[str, str]:
        """Write the pictures that are asked for, as PNG.

        Parameters
        ----------
        formats : sequence of str
            Of "keys" (`key_1.png`, ..., and `midline.png` where a shift was measured), "montage", "planes"
            (`planes_1.png`, ...) and "views"; any other is passed over.

        Returns
        -------
        dict of str to str
            The names of the files.
        """
        drawn: dict[str, Image.Image | None] = {}
        if "keys" in formats:
            drawn |= {f"key_{number}": image for number, image in enumerate(self.key_slices.values(), 1)}
            drawn["midline"] = self.midline
        if "montage" in formats:
            drawn["montage"] = self.montage
        if "planes" in formats:
            drawn |= {f"planes_{number}": image for number, image in enumerate(self.lesion_planes, 1)}
        if "views" in formats:
            drawn["views"] = self.views
        files = {name: f"{name}.png" for name, image in drawn.items() if image is not None}
        for name, file in files.items():
            image = drawn[name]
            assert image is not None
            image.save(folder / file, compress_level=2)
        return files
