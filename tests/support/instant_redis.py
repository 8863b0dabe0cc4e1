"""A Redis that answers immediately, so that only the cost of our own code remains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from catalog_sync.store import checksums
from catalog_sync.store.checksums import checksum, manifest_entry


class InstantRedis:
    """Answers without yielding to the event loop, so that only the yields of the tested code are seen."""

    def __init__(self, rows: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.rows = rows
        self.staged = 0
        """Bundles that it claims to have."""
        packed = checksums.Packed()
        packed.add((name, checksum("bundles", name, text)) for name, text in rows)
        self._buckets = [bucket for _, bucket in packed.fields()]

    async def script(self, name: str, _: str, *, args: Sequence[Any], **__: Any) -> Any:
        if name == "read lines":
            start, size = int(args[0]), int(args[1])
            page = self.rows[start : start + size]
            end = start + size if start + size < len(self.rows) else 0
            names, texts = (b"\n".join(each) for each in zip(*page, strict=True))
            return [b"%d" % end, len(page), names, texts]
        if name == "stage bundles":
            self.staged += len(args) // 2
        return len(args) if name == "verify names" else 1

    async def command(self, name: str, *_: Any) -> Any:
        if name == "read checksums":
            return [encode_json(manifest_entry({})), *self._buckets]
        return self.staged

    async def read_many(self, _: str, commands: Sequence[Any]) -> Any:
        found = dict(self.rows)
        return [[found.get(field) for field in commands[0][2:]], [None] * (len(commands[1]) - 2)]


def encode_json(document: Any) -> bytes:
    return json.dumps(document).encode()
