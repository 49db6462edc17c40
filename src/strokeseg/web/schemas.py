"""What the REST interface says, as pydantic models; they are its OpenAPI document."""

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
"""Nothing more happens to a study by itself."""

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
    """Why something was refused or failed: the codes of docs/codes.md."""

    code: str
    detail: str
    remedy: str


class Progress(BaseModel):
    """Slices done, and slices in all."""

    done: int
    total: int


class StudyVersion(BaseModel):
    """An answer: 0 is the machine's, the others were drawn by people."""

    version: int
    created: str
    author: str | None
    note: str
    accepted: bool | None
    hemorrhage: bool
    volume_ml: float | None


class Study(BaseModel):
    """A study and how far it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [_STUDY]})

    id: str
    name: str = Field(description="as the user gave it; show it as text")
    created: str
    status: StudyStatus
    progress: Progress | None
    priority: Priority
    owner: str
    group: str | None
    model: str
    version: int = Field(description="the latest; 0 is the machine's answer, which is there once `has_result` is true")
    versions: list[StudyVersion]
    hemorrhage: bool | None
    confidence: float | None
    volume_ml: float | None
    volume_interval_ml: tuple[float, float] | None
    error: ErrorInfo | None
    has_slices: bool
    has_result: bool


class StudyPage(BaseModel):
    """Some studies, the newest first."""

    items: list[Study]
    next: str | None = Field(description="pass it as `cursor` for the next page; null on the last")


class StudyOptions(BaseModel):
    """How a study is to be read and answered; the same fields as of `POST /studies`."""

    name: str = Field(default="", max_length=255)
    window: str = Field(default="", max_length=64, description="of pictures: CENTRE,WIDTH", examples=["40,80"])
    spacing: str = Field(
        default="", max_length=64, description="of pictures, mm: SLICE,ROW,COLUMN", examples=["5,0.45,0.45"]
    )
    series: str = Field(default="", max_length=64, description="series instance UID, or how it begins")
    model: str = Field(default="default", max_length=64)
    priority: Priority = "normal"


class NewUpload(BaseModel):
    """A file to be sent in pieces."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "study.zip", "size": 6059674}]})

    name: str = Field(max_length=1024, description="may be a relative path, as folder/IM1")
    size: int = Field(ge=1, le=2**53)


class Upload(BaseModel):
    """How far an upload is."""

    id: str
    offset: int = Field(description="bytes that are stored: the next piece begins here")
    size: int
    chunk_bytes: int = Field(description="a good size of a piece")


class FinishUploads(StudyOptions):
    """Uploads that make a study."""

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
    """The form of the slices, as they were acquired; slice 0 is the lowest."""

    slices: int
    rows: int
    columns: int
    calibrated: bool
    window: tuple[float, float] = Field(description="centre and width, Hounsfield units")
    pixel_spacing_mm: tuple[float, float] | None = Field(description="between rows, between columns")
    slice_positions_mm: list[float] | None = Field(description="along the normal")
    orientation: dict[Literal["right", "left", "top", "bottom"], str] = Field(
        description="which side of the patient is at each edge: L, R, A, P, S, I"
    )
    upright: dict[Literal["flip_rows", "flip_columns"], bool] = Field(description="how to show it face up")
    dtype: Literal["int16"] = "int16"
    byte_order: Literal["little"] = "little"


class Comparison(BaseModel):
    """Two studies laid on each other."""

    id: str
    earlier: str
    later: str
    status: Literal["queued", "comparing", "done", "refused", "failed"]
    error: ErrorInfo | None


class ModelList(BaseModel):
    """The installed networks: their cards."""

    items: list[dict[str, Any]]


class CurrentUser(BaseModel):
    """Who asks."""

    user: str | None
    group: str | None
    scopes: list[str]
    auth: Literal["off", "token", "oidc", "required"]
    oidc_login: str | None


class Health(BaseModel):
    """Whether it works."""

    status: Literal["ok", "not-ready"]
    checks: dict[str, bool] = Field(default_factory=dict)
