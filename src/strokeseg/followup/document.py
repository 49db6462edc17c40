"""What changed between two scans of one head: the models that are `change.json` (``strokeseg.followup.document/1``).

As in `result.json`, null is "not measured" or "cannot be said", and a remark says why.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from strokeseg.result import DISCLAIMER, Findings, InputInfo, ModelInfo, Remark

SCHEMA = "strokeseg.followup.document/1"

ChangeKind = Literal["same", "grown", "shrunk", "new", "gone", "merged", "split", "regrouped", "cut", "not-covered"]
Vector3 = tuple[float, float, float]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LesionChange(_Model):
    """What became of one lesion, or of several that became others."""

    kind: ChangeKind = Field(
        description="grown and shrunk: by more than 6 ml or 33 %; regrouped: several became several others; "
        "cut: on both scans, but one ends within it, so its change cannot be told; "
        "not-covered: on one scan, where the other shows nothing, so nothing can be said"
    )
    earlier: list[int] = Field(description="ids of the earlier scan's lesions")
    later: list[int] = Field(description="ids of the later scan's lesions")
    earlier_ml: float | None
    later_ml: float | None
    change_ml: float | None = Field(description="null where it is cut or not covered")
    change_percent: float | None = Field(description="of the earlier volume; null where there was none")
    apart_mm: float | None = Field(description="between the centroids, after the alignment")
    cut: bool = Field(description="whether more than a tenth of it lies where the other scan shows nothing")


class Change(_Model):
    """What changed in all; lesions that are cut or not covered are left out of the volumes."""

    earlier_ml: float | None
    later_ml: float | None
    change_ml: float | None
    change_interval_ml: tuple[float, float] | None = Field(
        description="from the later interval's low end minus the earlier one's high end to the other way round"
    )
    interval_level: float | None = Field(
        description="what the interval promises at least: for two intervals of 0.9 it is 0.8"
    )
    change_percent: float | None = Field(description="of the earlier volume; null where there was none")
    growth: bool | None = Field(
        description="more than 6 ml or more than 33 % (Brouwers 2014); null where there was no bleeding before, and "
        "where it is not seen in what both scans show, but a lesion is cut or not covered"
    )
    growth_sure: bool | None = Field(
        description="whether all volumes within the two intervals give the same answer; null without intervals"
    )
    lesions: list[LesionChange] = Field(default_factory=list)


class AlignmentInfo(_Model):
    """How the earlier head was laid on the later one: a turn and a shift, LPS mm."""

    rotation: tuple[Vector3, Vector3, Vector3] = Field(description="later = rotation x earlier + shift")
    shift_mm: Vector3
    angle_deg: float
    skulls_apart_mm: float = Field(description="between the surfaces, mean over the nearest 80 % of points")
    bone_overlap: float = Field(description="0 to 1; 0.9 or more for one head, below 0.8 two heads are refused")
    shared: float = Field(description="of each skull's surface what the other scan shows, the smaller of the two")


class ComparedScan(_Model):
    """One of the two scans, as its own `result.json` would hold it."""

    remarks: list[Remark]
    input: InputInfo
    model: ModelInfo
    findings: Findings


class ChangeTiming(_Model):
    """Seconds of each step."""

    align: float = 0.0
    match: float = 0.0
    write: float = 0.0


class ChangeDocument(_Model):
    """`change.json`."""

    schema_: Literal["strokeseg.followup.document/1"] = Field(default="strokeseg.followup.document/1", alias="schema")
    software: str
    remarks: list[Remark]
    change: Change
    alignment: AlignmentInfo
    earlier: ComparedScan
    later: ComparedScan
    timing_s: ChangeTiming
    files: dict[str, str] = Field(default_factory=dict, description="name: path relative to this file")
    disclaimer: str = DISCLAIMER

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `change.json`."""
    schema = ChangeDocument.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
