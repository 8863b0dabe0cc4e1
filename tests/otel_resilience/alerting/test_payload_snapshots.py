"""The messages as reviewed files: one per kind of message and channel, as sent."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.alert_channels import KINDS, channel_for, receiver_for
from support.alert_receivers import served
from support.notifications import SAMPLES

SNAPSHOTS = Path(__file__).parent / "snapshots"
RENEW = "RENEW_SNAPSHOTS"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_message_is_accepted_and_reads_as_reviewed(kind: str, sample: str) -> None:
    with served(receiver_for(kind)) as receiver:
        channel_for(kind, receiver.url).deliver(SAMPLES[sample], timeout=5)
    assert receiver.failures == []
    (payload,) = receiver.accepted
    text = json.dumps(payload, ensure_ascii=False, indent=2) + "\n"
    path = SNAPSHOTS / f"{sample}.{kind}.json"
    if os.environ.get(RENEW):
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"no snapshot; write it with {RENEW}=1 and review it"
    assert text == path.read_text("utf-8"), f"if the change is meant, renew with {RENEW}=1 and review the difference"


def test_every_snapshot_belongs_to_a_sample() -> None:
    expected = {f"{sample}.{kind}.json" for sample in SAMPLES for kind in KINDS}
    assert {path.name for path in SNAPSHOTS.iterdir()} == expected
