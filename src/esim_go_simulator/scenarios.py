"""The scenarios that the simulator knows by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from catalog_sync.domain.errors import ConfigurationError
from esim_go_simulator.faults import Scenario, parse_scenario

_LIST: Final = {"endpoint": "catalogue"}


def _once(page: int, count: int = 1) -> dict[str, Any]:
    """A few first requests of one page: repeating them helps."""
    return {"endpoint": "catalogue", "page": page, "attempt": 1, "count": count}


_BUILT_IN: Final[dict[str, dict[str, Any]]] = {
    "calm": {"description": "Nothing goes wrong.", "rules": []},
    "rate-limited": {
        "description": "Ten requests meet a 429 at their first attempt.",
        "rules": [
            {"fault": "status", "status": 429, "when": {**_LIST, "attempt": 1, "probability": 0.15, "count": 10}}
        ],
    },
    "flaky": {
        "description": "Throttling, time-outs, resets, gateway errors and cut bodies; all of them pass on a retry.",
        "rules": [
            {"fault": "hang", "when": _once(3, 2)},
            {"fault": "status", "status": 503, "retry_after": 1, "when": _once(5, 2)},
            {"fault": "reset", "when": _once(7)},
            {"fault": "status", "status": 502, "when": _once(9)},
            {"fault": "truncated", "when": _once(11)},
            {"fault": "status", "status": 500, "when": _once(2)},
            {"fault": "status", "status": 429, "when": {**_LIST, "attempt": 1, "probability": 0.05, "count": 8}},
            {"fault": "latency", "delay_s": 0.3, "when": {**_LIST, "attempt": 1, "probability": 0.05}},
        ],
    },
    "outage": {
        "description": "Every request fails: 503, and a reset connection every third time.",
        "rules": [
            {"fault": "reset", "when": {"every": 3}},
            {"fault": "status", "status": 503, "message": "Service unavailable", "retry_after": "none"},
        ],
    },
    "brief-outage": {
        "description": "Every request fails with 503 during the first ten seconds.",
        "rules": [
            {
                "fault": "status",
                "status": 503,
                "message": "Service unavailable",
                "retry_after": "none",
                "when": {"until_s": 10},
            }
        ],
    },
    "maintenance": {
        "description": "Every request meets a 503 whose Retry-After is a date 30 seconds ahead.",
        "rules": [{"fault": "status", "status": 503, "retry_after": 30, "retry_after_date": True}],
    },
    "slow": {"description": "Every answer takes 1.5 seconds.", "rules": [{"fault": "latency", "delay_s": 1.5}]},
    "slow-drip": {
        "description": "Every page arrives at 200 bytes per second.",
        "rules": [{"fault": "drip", "when": _LIST}],
    },
    "hang": {"description": "No page is ever answered.", "rules": [{"fault": "hang", "when": _LIST}]},
    "resets": {"description": "Every connection is reset.", "rules": [{"fault": "reset"}]},
    "closes": {"description": "Every connection ends without an answer.", "rules": [{"fault": "close"}]},
    "group-denied": {
        "description": "403 on the last but one group; the key is good otherwise.",
        "rules": [{"fault": "status", "status": 403, "when": {**_LIST, "group": -2}}],
    },
    "group-unavailable": {
        "description": "500 on the last but one group, always.",
        "rules": [{"fault": "status", "status": 500, "when": {**_LIST, "group": -2}}],
    },
    "key-revoked": {
        "description": "403 on every request.",
        "rules": [{"fault": "status", "status": 403}],
    },
    "unauthorized": {"description": "401 on every request.", "rules": [{"fault": "status", "status": 401}]},
    "garbage": {
        "description": "Pages are HTML, empty, cut off, null, contradictory or not what their encoding says.",
        "rules": [
            {"fault": "html", "when": {**_LIST, "probability": 0.17}},
            {"fault": "empty", "when": {**_LIST, "probability": 0.2}},
            {"fault": "truncated", "when": {**_LIST, "probability": 0.25}},
            {"fault": "null_bundles", "when": {**_LIST, "probability": 0.34}},
            {"fault": "bad_encoding", "when": {**_LIST, "probability": 0.5}},
            {"fault": "contradiction", "when": _LIST},
        ],
    },
    "contradiction": {
        "description": "Every page is empty and claims 5,148 rows.",
        "rules": [{"fault": "contradiction", "when": _LIST}],
    },
    "repeated-page": {
        "description": "Every page from the second one on repeats the first.",
        "rules": [{"fault": "repeated_page", "when": {**_LIST, "from_page": 2}}],
    },
    "drift": {
        "description": "The catalogue shrinks by a tenth after the first three pages.",
        "rules": [{"fault": "paging_drift", "when": {"skip": 3}}],
    },
    "bad-rows": {
        "description": "Every fifth row has a wrong price, country or duration.",
        "rules": [{"fault": "bad_rows", "ratio": 0.2}],
    },
    "few-bad-rows": {
        "description": "One row of a hundred has a wrong price, country or duration.",
        "rules": [{"fault": "bad_rows", "ratio": 0.01}],
    },
    "string-prices": {"description": "All prices are strings.", "rules": [{"fault": "string_prices"}]},
    "bare-array": {
        "description": "Lists come without their envelope.",
        "rules": [{"fault": "bare_array", "when": {"endpoint": ["catalogue", "groups"]}}],
    },
    "vanished-group": {
        "description": "The last but one group is gone.",
        "catalogue": {"drop_groups": [-2]},
    },
    "big-drop": {
        "description": "Half of each group's bundles are gone.",
        "catalogue": {"withdraw_ratio": 0.5},
    },
    "small-drop": {
        "description": "A hundredth of each group's bundles is gone.",
        "catalogue": {"withdraw_ratio": 0.01},
    },
    "oversized": {
        "description": "Every page is 64 MiB long and does not say so.",
        "rules": [{"fault": "oversized", "when": _LIST}],
    },
    "gzip-bomb": {
        "description": "Every page decompresses to 64 MiB.",
        "rules": [{"fault": "gzip_bomb", "when": _LIST}],
    },
    "redirect-other-host": {
        "description": "Every page redirects to another host.",
        "rules": [{"fault": "redirect", "to": "other-host", "when": _LIST}],
    },
    "redirect-loop": {
        "description": "Every page redirects for ever.",
        "rules": [{"fault": "redirect", "to": "loop", "when": _LIST}],
    },
}

NAMES: Final = tuple(_BUILT_IN)
"""Names of the built-in scenarios."""


def built_in(name: str) -> Scenario:
    """The built-in scenario of that name. Raises ``ConfigurationError`` if there is none."""
    try:
        data = _BUILT_IN[name]
    except KeyError as error:
        raise ConfigurationError(f"no scenario {name!r}; there are: {', '.join(NAMES)}, or a JSON file") from error
    return parse_scenario({"name": name, **data})


def load_scenario(source: str) -> Scenario:
    """A built-in scenario by name, or the one in a JSON file. Raises ``ConfigurationError``."""
    if source in _BUILT_IN:
        return built_in(source)
    path = Path(source)
    if not path.is_file():
        return built_in(source)
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is not a scenario: {error}") from error
    return parse_scenario({"name": path.stem[:64] or "file", **data} if isinstance(data, dict) else data)
