"""Data sets of phantoms, in the layout of CT-ICH (masks) and Head CT (normals), to train on for a moment."""

import numpy as np
from PIL import Image

from strokeseg.training.augmentation import StoredSlice, store_slice
from strokeseg.training.config import Config
from strokeseg.training.sample import Sample

SIZE = 192


DATA_CONFIG = """
[data]
root = "."
validation = ["ctich_train", "head_ct_normal"]
validation_share = 0.25
sources = { ctich_train = 0.7, head_ct_normal = 0.3 }
"""


def make_slice(rng, blood):
    """A head in the window (40, 120): skull, noisy brain at 35 HU, and perhaps a bright round bleed at 70 HU."""
    rows, columns = np.indices((SIZE, SIZE))
    far = np.hypot((rows - 96) / 82, (columns - 96) / 66)
    hu = np.where(far < 0.9, 35 + rng.normal(0, 3, far.shape), np.where(far < 1, 900, -1000))
    mask = np.zeros(far.shape, dtype=bool)
    if blood:
        row, column, radius = rng.uniform(65, 125), rng.uniform(70, 120), rng.uniform(9, 20)
        mask = np.hypot(rows - row, columns - column) < radius
        hu[mask] = 70 + rng.normal(0, 3, int(mask.sum()))
    grey = np.clip((hu + 20) / 120, 0, 1) * 255
    return grey.astype(np.uint8), mask


def write_datasets(root):
    rng = np.random.default_rng(0)
    folder = root / "ctich_train"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    rows = ["id,patient,slice,mask_px"]
    for patient in range(8):
        for number in range(3):
            name = f"{patient:03d}_{number}"
            grey, mask = make_slice(rng, blood=True)
            Image.fromarray(grey).save(folder / f"images/{name}.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"masks/{name}.png")
            rows.append(f"{name},{patient:03d},{number},{int(mask.sum())}")
    (folder / "index.csv").write_text("\n".join(rows))
    folder = root / "head_ct_hemorrhage"
    (folder / "images_unmasked").mkdir(parents=True)
    rows = ["id,label_hemorrhage,has_mask,neardup_group"]
    for number in range(6):
        Image.fromarray(make_slice(rng, blood=False)[0]).save(folder / f"images_unmasked/{number:03d}.png")
        rows.append(f"{number:03d},0,0,g{number}")
    (folder / "index.csv").write_text("\n".join(rows))


def make_stored_slice(patient="a", blood=True, boxed=False, source="ctich_train") -> StoredSlice:
    """A round head of 160 x 160 pixels with a round lesion, as it is stored for training."""
    rows, columns = np.indices((160, 160))
    far = np.hypot(rows - 80, columns - 80)
    hu = np.where(far < 62, 35, np.where(far < 70, 900, -1000)).astype(np.int16)
    mask = ((far < 12) & blood).astype(np.uint8)
    hu[mask == 1] = 70
    return store_slice(Sample(source, patient, patient, hu, mask, boxed))


def make_config(train=None, **changes) -> Config:
    """The smallest configuration of three sources, with changed entries."""
    return Config.model_validate(
        {
            "data": {"root": ".", "sources": {"a": 3, "b": 1, "boxes": 4}, "validation": ["a"]},
            "network": {"name": "x", "size": 64},
            "train": {"samples": 8, "batch": 8, **(train or {})},
            **changes,
        }
    )
