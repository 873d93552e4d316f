"""The objects of the API. Fields that a later server adds are left out; all of them stand in `raw`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


def _read(kind: type[T], document: dict[str, Any], **made: Any) -> T:
    """The fields of `kind` that stand in a document."""
    names = {each.name for each in dataclasses.fields(kind)} - made.keys()  # type: ignore[arg-type]
    return kind(**{name: document[name] for name in names if name in document}, **made)


@dataclass(frozen=True)
class File:
    """One file of an image."""

    name: str
    content_type: str
    size_bytes: int
    sha256: str
    url: str
    width_px: int | None = None
    height_px: int | None = None

    @classmethod
    def of(cls, document: dict[str, Any]) -> File:
        return _read(cls, document)


@dataclass(frozen=True)
class Image:
    """An upload with its files."""

    id: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    created_at: str
    width_px: int | None = None
    height_px: int | None = None
    pages_count: int | None = None
    files: list[File] = field(default_factory=list)
    job_ids: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Image:
        return _read(cls, document, files=[File.of(file) for file in document.get("files", [])], raw=document)


@dataclass(frozen=True)
class JobError:
    """Why the last attempt of a job did not succeed."""

    code: str
    detail: str
    retryable: bool = False
    stage: str | None = None
    limit: str | None = None
    measured: str | None = None
    remedy: str | None = None

    @classmethod
    def of(cls, document: dict[str, Any]) -> JobError:
        return _read(cls, document)


@dataclass(frozen=True)
class Job:
    """What is being made of an image."""

    id: str
    image_id: str
    preset: str
    state: str
    progress: float
    attempt: int
    attempts_max: int
    created_at: str
    stage: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_ms: int | None = None
    node: str | None = None
    slot: int | None = None
    error: JobError | None = None
    gate: dict[str, Any] | None = None
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Job:
        error = document.get("error")
        return _read(cls, document, error=JobError.of(error) if error else None, raw=document)

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in FINAL_STATES


@dataclass(frozen=True)
class Upload:
    """An image that the server has taken, and its job."""

    image: Image
    job: Job
    deduplicated: bool = False
    """Whether both were there already, as `dedup` asked for; then the image has the name it was first given."""

    @classmethod
    def of(cls, document: dict[str, Any]) -> Upload:
        return _read(cls, document, image=Image.of(document["image"]), job=Job.of(document["job"]))


@dataclass(frozen=True)
class Event:
    """Something that happened: `job` with the job object, `progress` with job, stage and progress."""

    kind: str
    data: dict[str, Any]
    id: str | None = None
