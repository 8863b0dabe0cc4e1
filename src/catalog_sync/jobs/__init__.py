"""Sync jobs: what was requested, its progress, its result. One record for the API, the workers and people."""

from catalog_sync.jobs.port import (
    Job,
    JobAbandonedError,
    JobConflictError,
    JobNotFoundError,
    Jobs,
    JobStatus,
    PoisonedStepError,
)
from catalog_sync.sync.progress import GroupProgress

__all__ = [
    "GroupProgress",
    "Job",
    "JobAbandonedError",
    "JobConflictError",
    "JobNotFoundError",
    "JobStatus",
    "Jobs",
    "PoisonedStepError",
]
