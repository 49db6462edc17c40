"""Pydantic models of `result.json`, from which its JSON Schema (``strokeseg.result/1``) is made.

A quantity that was not or could not be measured is null, never a guess; a remark states why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "strokeseg.result/1"
DISCLAIMER = (
    "StrokeSeg is research software, not a medical device. It has not been cleared for diagnosis; "
    "do not base a decision about a patient on it."
)


class _FrozenModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Remark(_FrozenModel):
    """A note on the input or the result that the reader must know."""

    code: str
    severity: Literal["info", "repaired", "warning"]
    message: str
    slices: list[int] = Field(default_factory=list, description="indices into the scan's slices, inferior first")


def are_sides_known(remarks: Iterable[Remark]) -> bool:
    """Whether the input states left and right, or they were only assumed."""
    return not any(remark.code in ("assumed-sides", "no-orientation") for remark in remarks)


Side = Literal["left", "right", "both", "midline", "unsure"]
Tentorium = Literal["supratentorial", "infratentorial", "both", "unsure"]
Location = Literal["deep", "lobar", "ventricle", "extra-axial", "cerebellum", "brainstem", "unsure"]
HemorrhageType = Literal["intraparenchymal", "intraventricular", "subdural", "epidural", "subarachnoid"]


class Signs(_FrozenModel):
    """CT signs associated with growth, as far as pixels show them; experimental (docs/measures.md)."""

    swirl: bool
    black_hole: bool
    blend: bool


class Lesion(_FrozenModel):
    """A connected component of hemorrhage."""

    id: int = Field(description="1 is the largest")
    pixels: int = Field(description="pixels of the mask, over all slices")
    slices: tuple[int, int] = Field(description="first and last slice, indices, inferior first")
    probability: float | None = Field(description="mean of the probability map over the lesion")
    volume_ml: float | None
    blood_probability: float | None = Field(
        default=None, description="probability that it is blood, by a second look; null if the model has none"
    )
    reasons_for: list[str] = Field(default_factory=list, description="what speaks for blood, the strongest first")
    reasons_against: list[str] = Field(default_factory=list, description="what speaks against blood")
    side: Side | None = Field(default=None, description="of the patient")
    tentorium: Tentorium | None = None
    place: Location | None = None
    intraventricular_ml: float | None = Field(default=None, description="volume of the part in the ventricles")
    abc2_ml: float | None = None
    max_diameter_mm: float | None = Field(default=None, description="longest in-plane diameter")
    surface_mm2: float | None = None
    sphericity: float | None = Field(
        default=None, description="surface of a sphere of the same volume / surface: 1 is a sphere"
    )
    mean_hu: float | None = None
    std_hu: float | None = Field(
        default=None, description="standard deviation of the density, a measure of heterogeneity"
    )
    centroid_lps_mm: tuple[float, float, float] | None = None
    signs: Signs | None = Field(default=None, description="experimental: only on request")
    type_probabilities: dict[HemorrhageType, float] | None = Field(
        default=None, description="experimental: only on request"
    )


class Midline(_FrozenModel):
    """Points between which the midline shift was measured."""

    slice: int = Field(description="index, inferior first")
    front_lps_mm: tuple[float, float, float] = Field(description="front end of the ideal midline, at the inner skull")
    back_lps_mm: tuple[float, float, float] = Field(description="back end of the ideal midline")
    septum_lps_mm: tuple[float, float, float] = Field(description="position of the septum")


class IchScoreParts(_FrozenModel):
    """Components of the ICH score that an image shows; the score itself also needs age and coma scale.

    Hemphill JC et al. The ICH score. Stroke 2001;32:891-897.
    """

    volume_30_ml_or_more: bool | None
    intraventricular: bool | None
    infratentorial: bool | None


class Findings(_FrozenModel):
    """All measurements; null means "not measured"."""

    hemorrhage: bool
    confidence: float | None = Field(
        description="calibrated probability of hemorrhage; null if the network was not calibrated"
    )
    volume_ml: float | None
    volume_interval_ml: tuple[float, float] | None = None
    interval_level: float | None = Field(default=None, description="coverage of the interval: 0.9 is 90 %")
    side: Side | None = Field(default=None, description="of the patient, all lesions together")
    midline_shift_mm: float | None = Field(default=None, description="at the septum pellucidum")
    midline_shift_side: Literal["left", "right"] | None = Field(
        default=None, description="of the patient, to which the septum is shifted"
    )
    midline: Midline | None = None
    intraventricular: bool | None = Field(default=None, description="whether there is blood in the ventricles")
    intraventricular_ml: float | None = None
    ventricular_share: float | None = Field(default=None, description="share of the ventricles filled with blood")
    ich_score_parts: IchScoreParts | None = None
    dropped_specks: int = Field(default=0, description="components left out: too small, or outside the skull")
    lesions: list[Lesion] = Field(default_factory=list)
    remarks: list[Remark] = Field(
        default_factory=list, exclude=True, description="why a value is null; in `result.json` among all remarks"
    )


class InputInfo(_FrozenModel):
    """Kind and geometry of the input, without patient data."""

    kind: Literal["dicom", "nifti", "nrrd", "metaimage", "pictures", "array"]
    series_uid: str | None
    slices: int
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float] | None
    slice_weights_mm: list[float] | None
    tilt_deg: float
    calibrated: bool
    window: tuple[float, float] | None = Field(default=None, description="(centre, width) of pictures")


class ModelInfo(_FrozenModel):
    """The network that made the segmentation."""

    name: str
    version: str
    sha256: str
    engine: str
    precision: str
    threshold: float = Field(description="probability threshold of the mask")
    operating_point: str = Field(default="balanced", description="choice between missed hemorrhages and false alarms")


class Timing(_FrozenModel):
    """Duration of each step and of all steps, s."""

    read: float = 0.0
    infer: float = 0.0
    measure: float = 0.0
    surface: float = 0.0
    write: float = 0.0
    total: float = 0.0


class ResultDocument(_FrozenModel):
    """Content of `result.json`."""

    schema_: Literal["strokeseg.result/1"] = Field(default="strokeseg.result/1", alias="schema")
    software: str
    status: Literal["accepted", "repaired"]
    remarks: list[Remark]
    input: InputInfo
    model: ModelInfo
    findings: Findings
    timing_s: Timing
    files: dict[str, str] = Field(default_factory=dict, description="name: path relative to this file")
    disclaimer: str = DISCLAIMER

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


def build_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `result.json`."""
    schema = ResultDocument.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
