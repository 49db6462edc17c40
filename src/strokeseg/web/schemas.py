"""The REST interface's JSON as pydantic models; the OpenAPI document is generated from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

StudyStatus = Literal[
    "queued",
    "reading",
    "segmenting",
    "measuring",
    "writing",
    "delivering",
    "done",
    "refused",
    "failed",
    "cancelled",
]
Priority = Literal["normal", "urgent"]
TERMINAL_STATUSES = ("done", "refused", "failed", "cancelled")
"""A study in one of these states does not change by itself."""
RUNNING_STATUSES = ("queued", "reading", "segmenting", "measuring", "writing", "delivering")
RETRYABLE_STATUSES = ("failed", "refused")
"""A study in one of these states has no result and can be processed again."""

_STUDY: dict[str, JsonValue] = {
    "id": "0f8fad5bd9cb469fa16570867728950e",
    "name": "ge_head.zip",
    "created": "2026-01-31T12:00:00+00:00",
    "status": "segmenting",
    "progress": {"done": 12, "total": 28},
    "priority": "normal",
    "owner": "local",
    "group": None,
    "model": "default",
    "version": 0,
    "versions": [],
    "hemorrhage": None,
    "confidence": None,
    "volume_ml": None,
    "volume_interval_ml": None,
    "error": None,
    "has_slices": True,
    "has_result": False,
}


class ErrorInfo(BaseModel):
    """Reason for a refusal or failure; docs/codes.md lists the codes."""

    code: str
    detail: str
    remedy: str


class Progress(BaseModel):
    """Number of finished slices and of all slices."""

    done: int
    total: int


class StudyVersion(BaseModel):
    """One version of a result: 0 is the network's, the others were corrected by people."""

    version: int
    created: str
    author: str | None
    note: str
    accepted: bool | None
    hemorrhage: bool
    volume_ml: float | None


class Study(BaseModel):
    """A study and its progress."""

    model_config = ConfigDict(json_schema_extra={"examples": [_STUDY]})

    id: str
    name: str = Field(description="As the user entered it; display it as plain text")
    created: str
    status: StudyStatus
    progress: Progress | None
    priority: Priority
    owner: str
    group: str | None
    model: str
    version: int = Field(description="The latest version; 0 is the network's, which exists once `has_result` is true")
    versions: list[StudyVersion]
    hemorrhage: bool | None
    confidence: float | None
    volume_ml: float | None
    volume_interval_ml: tuple[float, float] | None
    error: ErrorInfo | None
    has_slices: bool
    has_result: bool


class StudyPage(BaseModel):
    """A page of studies, newest first."""

    items: list[Study]
    next: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last page")


class StudyOptions(BaseModel):
    """Options for reading and segmenting a study; the same fields as of `POST /studies`."""

    name: str = Field(default="", max_length=255)
    window: str = Field(default="", max_length=64, description="Window of pictures: CENTRE,WIDTH", examples=["40,80"])
    spacing: str = Field(
        default="", max_length=64, description="Spacing of pictures in mm: SLICE,ROW,COLUMN", examples=["5,0.45,0.45"]
    )
    order: str = Field(
        default="",
        max_length=16,
        description="Direction of a stack of pictures: auto, lowest-first or highest-first",
        examples=["highest-first"],
    )
    series: str = Field(default="", max_length=64, description="Series instance UID, or its beginning")
    operating_point: str = Field(
        default="",
        max_length=16,
        description="Choice between missed hemorrhages and false alarms: sensitive, balanced or specific",
        examples=["sensitive"],
    )
    threshold: str = Field(default="", max_length=16, description="Probability threshold of the outlines, 0 to 1")
    smallest_ml: str = Field(default="", max_length=16, description="Leave out lesions smaller than this, ml")
    model: str = Field(default="default", max_length=64)
    priority: Priority = "normal"


class NewUpload(BaseModel):
    """A file to be uploaded in chunks."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "study.zip", "size": 6059674}]})

    name: str = Field(max_length=1024, description="May be a relative path, such as folder/IM1")
    size: int = Field(ge=1, le=2**53)


class Upload(BaseModel):
    """Progress of an upload."""

    id: str
    offset: int = Field(description="Number of stored bytes: the next chunk starts here")
    size: int
    chunk_bytes: int = Field(description="Recommended size of a chunk")


class FinishUploads(StudyOptions):
    """Uploads that together become a study."""

    uploads: list[str] = Field(default_factory=list, max_length=20_000)


class ResultFile(BaseModel):
    """A file of a result."""

    name: str
    bytes: int
    sha256: str
    media_type: str
    format: str


class ResultFiles(BaseModel):
    """The files of a result."""

    items: list[ResultFile]


class SliceGeometry(BaseModel):
    """Geometry of the slices as acquired; slice 0 is the lowest."""

    slices: int
    rows: int
    columns: int
    calibrated: bool
    window: tuple[float, float] = Field(description="Centre and width in Hounsfield units")
    pixel_spacing_mm: tuple[float, float] | None = Field(description="Distance between rows and between columns")
    slice_positions_mm: list[float] | None = Field(description="Positions along the slice normal")
    orientation: dict[Literal["right", "left", "top", "bottom"], str] = Field(
        description="The patient's side at each edge: L, R, A, P, S or I"
    )
    upright: dict[Literal["flip_rows", "flip_columns"], bool] = Field(description="Flips that show the face at the top")
    dtype: Literal["int16"] = "int16"
    byte_order: Literal["little"] = "little"


class Comparison(BaseModel):
    """A comparison of two studies."""

    id: str
    earlier: str
    later: str
    status: Literal["queued", "comparing", "done", "refused", "failed"]
    error: ErrorInfo | None


class ModelList(BaseModel):
    """The cards of the installed models."""

    items: list[dict[str, Any]]


class CurrentUser(BaseModel):
    """The user of a request."""

    user: str | None
    group: str | None
    scopes: list[str]
    auth: Literal["off", "token", "oidc", "required"]
    oidc_login: str | None


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok", "not-ready"]
    checks: dict[str, bool] = Field(default_factory=dict)
