"""What can go wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._models import Job


class InkpoolError(Exception):
    """Every error of this package."""


class Unreachable(InkpoolError):
    """There was no answer, or none of an Inkpool server."""


class ProblemError(InkpoolError):
    """The server said no (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after_s: float | None = None):
        self.status = status
        self.code = str(problem.get("code", ""))
        self.title = str(problem.get("title", ""))
        self.detail = str(problem.get("detail", ""))
        self.limit: str | None = problem.get("limit")
        self.measured: str | None = problem.get("measured")
        self.remedy: str | None = problem.get("remedy")
        self.retry_after_s = retry_after_s
        figures = f" (limit {self.limit}, measured {self.measured})" if self.limit and self.measured else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        super().__init__(f"{status} {self.code or self.title}: {self.detail}{figures}{remedy}")

    @classmethod
    def of(cls, status: int, reason: str, body: bytes, retry_after: str | None) -> ProblemError:
        """From an answer, whoever gave it: a proxy on the way sends no problem document."""
        try:
            problem = json.loads(body)
        except ValueError:
            problem = None
        if not isinstance(problem, dict):
            problem = {"title": reason, "detail": f"The server answers {status} {reason}."}
        after = float(retry_after) if retry_after and retry_after.strip().isdigit() else None
        return cls(status, problem, after)


class JobFailed(InkpoolError):
    """A job ended, and not with success."""

    def __init__(self, job: Job):
        self.job = job
        why = f"{job.error.code}: {job.error.detail}" if job.error else job.state
        super().__init__(f"job {job.id} {job.state} ({why})")
