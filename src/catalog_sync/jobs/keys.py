"""The keys of jobs in Redis. They share the hash tag of the catalogue, so that a script may access both."""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from catalog_sync.store.keys import TAG, Key

ACTIVE: Final = Key(f"{TAG}:jobs:active")
"""The ID of the job that is queued or running."""
INDEX: Final = Key(f"{TAG}:jobs:index")
"""Sorted set of job IDs by time of request."""
CHANGES: Final = Key(f"{TAG}:jobs:changes")
"""Stream of the IDs of jobs that changed."""
DEAD: Final = Key(f"{TAG}:jobs:dead")
"""List of dead letters, newest first."""
DEAD_COUNT: Final = Key(f"{TAG}:jobs:dead:count")
"""How many dead letters there have been."""
SWEPT: Final = Key(f"{TAG}:jobs:swept")
"""Present while the last sweep is recent."""
SWEPT_IDLE: Final = Key(f"{TAG}:jobs:swept:idle")
"""The same for sweeps without a job, which are rare: a job that starts after one does not wait for the next."""
WORKER_PREFIX: Final = Key(f"{TAG}:jobs:worker:")

_ID: Final = re.compile(r"[0-9a-f]{16}")


def is_job_id(text: str) -> bool:
    """Whether ``text`` can be the ID of a job: only then is input from outside used in a key."""
    return _ID.fullmatch(text) is not None


@dataclasses.dataclass(frozen=True, slots=True)
class JobKeys:
    """The keys of one job."""

    job: str

    @property
    def record(self) -> Key:
        """Hash: the record."""
        return Key(f"{TAG}:job:{self.job}")

    @property
    def steps(self) -> Key:
        """Hash: who works on which step, until when, and how often it was started."""
        return Key(f"{TAG}:job:{self.job}:steps")

    @property
    def parts(self) -> Key:
        """Hash: the results of finished steps."""
        return Key(f"{TAG}:job:{self.job}:parts")

    @property
    def all(self) -> list[Key]:
        """Every key of the job."""
        return [self.record, self.steps, self.parts]
