"""The guards before publication. Pure: they look at counts and raise ``PublishRefusedError``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from catalog_sync.domain.errors import PublishRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAY_COINCIDE: Final = 10
"""With fewer bundles than this, two groups may well have the same ones."""


def check_bad_rows(rows: int, quarantined: int, max_ratio: float) -> None:
    """Refuses if more than ``max_ratio`` of the fetched rows were quarantined.

    A single bad row among good ones is tolerated however few there are, unless ``max_ratio`` is 0.
    """
    tolerated = max(1, max_ratio * rows) if max_ratio and rows > 1 else 0
    if quarantined > tolerated:
        raise PublishRefusedError(
            f"{quarantined} of {rows} rows cannot be used ({quarantined / rows:.1%}), {max_ratio:.1%} are tolerated",
            context={"guard": "bad_rows", "rows": rows, "quarantined": quarantined},
        )


def check_drop(before: int, after: int, max_ratio: float) -> None:
    """Refuses if the count fell by more than ``max_ratio``."""
    if before and (before - after) / before > max_ratio:
        raise PublishRefusedError(
            f"the catalogue would shrink from {before} to {after} bundles ({(before - after) / before:.1%}), "
            f"{max_ratio:.1%} are tolerated; --force publishes it",
            context={"guard": "drop", "before": before, "after": after},
        )


def check_groups(before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Refuses if a group that had bundles is missing or empty."""
    gone = sorted(name for name, count in before.items() if count and not after.get(name))
    if gone:
        raise PublishRefusedError(
            f"no bundles any more in {_listed(gone)}; --force publishes it",
            context={"guard": "vanished_group", "groups": ", ".join(gone[:10]), "count": len(gone)},
        )


def check_filtered(asked: Sequence[str], bundles: int) -> None:
    """Refuses if each of the requested groups got all ``bundles``, although the rows do not name all groups."""
    if bundles >= MAY_COINCIDE:
        what = "each group" if len(asked) > 1 else _listed(asked)
        raise PublishRefusedError(
            f"the supplier sends the same {bundles} bundles for every group, so {what} would have them "
            "all; --force publishes it",
            context={"guard": "group_ignored", "groups": ", ".join(asked[:10]), "bundles": bundles},
        )


def check_all_fetched(damage: str, failed: Sequence[str]) -> None:
    """Refuses a partial catalogue if it is unknown what would be lost with the groups that failed."""
    if failed:
        raise PublishRefusedError(
            f"{damage}, so the last good data of {_listed(failed)} cannot be kept; --force publishes without",
            context={"guard": "damaged_catalogue", "groups": ", ".join(failed[:10]), "count": len(failed)},
        )


def check_not_empty(after: int) -> None:
    """Refuses an empty catalogue: it is far more often an outage than the truth."""
    if not after:
        raise PublishRefusedError(
            "the supplier has no bundles at all; --force publishes the empty catalogue", context={"guard": "empty"}
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"group {name!r}" for name in names)
