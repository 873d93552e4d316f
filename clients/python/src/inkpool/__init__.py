"""Client for Inkpool, a self-hosted server that cleans and converts scanned pages."""

from ._client import Client
from ._errors import InkpoolError, JobFailed, ProblemError, Unreachable
from ._models import Event, File, Image, Job, JobError, Upload

__all__ = [
    "Client",
    "Event",
    "File",
    "Image",
    "InkpoolError",
    "Job",
    "JobError",
    "JobFailed",
    "ProblemError",
    "Unreachable",
    "Upload",
]
__version__ = "0.1.0"
