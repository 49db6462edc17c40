"""The models of `change.json` (``strokeseg.change/1``): the comparison of two scans of one patient.

As in `result.json`, null means "not measured" or "unknown", and a remark gives the reason.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from strokeseg.result import DISCLAIMER, Findings, InputInfo, ModelInfo, Remark

SCHEMA = "strokeseg.change/1"

ChangeKind = Literal["same", "grown", "shrunk", "new", "gone", "merged", "split", "regrouped", "cut", "not-covered"]
Vector3 = tuple[float, float, float]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LesionChange(_Model):
    """The change of one lesion, or of several lesions that merged or split."""

    kind: ChangeKind = Field(
        description="grown and shrunk: by more than 6 ml or 33 %; regrouped: several lesions merged and split; "
        "cut: on both scans, but one scan ends within it, so its change is unknown; "
        "not-covered: on one scan, outside the coverage of the other, so its change is unknown"
    )
    earlier: list[int] = Field(description="lesion ids on the earlier scan")
    later: list[int] = Field(description="lesion ids on the later scan")
    earlier_ml: float | None
    later_ml: float | None
    change_ml: float | None = Field(description="null if it is cut or not covered")
    change_percent: float | None = Field(description="of the earlier volume; null if there was none")
    apart_mm: float | None = Field(description="between the centroids, after registration")
    cut: bool = Field(description="whether more than a tenth of it lies outside the coverage of the other scan")


class Change(_Model):
    """The change of the whole hemorrhage; the volumes leave out lesions that are cut or not covered."""

    earlier_ml: float | None
    later_ml: float | None
    change_ml: float | None
    change_interval_ml: tuple[float, float] | None = Field(
        description="from the later low end minus the earlier high end to the later high end minus the earlier low end"
    )
    interval_level: float | None = Field(description="lower bound of its coverage: 0.8 for two intervals of 0.9")
    change_percent: float | None = Field(description="of the earlier volume; null if there was none")
    growth: bool | None = Field(
        description="more than 6 ml or more than 33 % (Brouwers 2014); null if the earlier scan has no hemorrhage, or "
        "if there is no growth within the common coverage, but a lesion is cut or not covered"
    )
    growth_sure: bool | None = Field(
        description="whether all volumes within the two intervals give the same result; null without intervals"
    )
    lesions: list[LesionChange] = Field(default_factory=list)


class AlignmentInfo(_Model):
    """The registration of the earlier scan to the later one: rotation and translation, LPS mm."""

    rotation: tuple[Vector3, Vector3, Vector3] = Field(description="later = rotation x earlier + shift")
    shift_mm: Vector3
    angle_deg: float
    skulls_apart_mm: float = Field(description="mean distance of the surfaces over the nearest 80 % of points")
    bone_overlap: float = Field(description="0 to 1; 0.9 or more for the same head; below 0.8 the scans are refused")
    shared: float = Field(
        description="fraction of the skull surface within the coverage of the other scan; the smaller of the two"
    )


class ComparedScan(_Model):
    """One of the two scans, as in its own `result.json`."""

    remarks: list[Remark]
    input: InputInfo
    model: ModelInfo
    findings: Findings


class ChangeTiming(_Model):
    """Duration of each step in seconds."""

    align: float = 0.0
    match: float = 0.0
    write: float = 0.0


class ChangeDocument(_Model):
    """`change.json`."""

    schema_: Literal["strokeseg.change/1"] = Field(default="strokeseg.change/1", alias="schema")
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
