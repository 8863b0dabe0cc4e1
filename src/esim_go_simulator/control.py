"""The control endpoint ``/__sim``: what a test or a demonstration changes while the simulator runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web
from pydantic import ValidationError

from catalog_sync.domain.errors import ConfigurationError
from esim_go_simulator import scenarios
from esim_go_simulator.delivery import message
from esim_go_simulator.selection import CatalogueEdits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from esim_go_simulator.faults import Scenario
    from esim_go_simulator.request_log import SeenRequest

PREFIX: Final = "/__sim"
_MAX_RATE: Final = 1_000_000
_DEFAULT_LISTED: Final = 1000


class Controlled(Protocol):
    """The parts of the simulator that can be changed from outside."""

    @property
    def scenario(self) -> Scenario:
        """The current scenario."""
        ...

    @property
    def requests(self) -> Iterable[SeenRequest]:
        """The requests that were answered, oldest first."""
        ...

    def stats(self) -> Mapping[str, Any]:
        """The counters."""
        ...

    def set_scenario(self, scenario: str | Scenario | dict[str, Any]) -> None:
        """Starts a scenario. Raises ``ConfigurationError``."""
        ...

    def set_rate(self, rate: int) -> None:
        """Changes the limit, in requests per second; 0 for none."""
        ...

    def change_catalogue(self, edits: CatalogueEdits) -> None:
        """Changes the bundles for sale."""
        ...

    def restore_catalogue(self) -> None:
        """Undoes all edits; those of the scenario stay."""
        ...

    def reset(self) -> None:
        """Resets everything: no scenario, counters at zero."""
        ...


async def handle(simulator: Controlled, request: web.BaseRequest) -> web.Response:
    """Answers a request to the control endpoint, which is not counted, limited or traced, and needs no key."""
    call = (request.method, request.path.removeprefix(PREFIX).strip("/"))
    try:
        if request.method == "GET":
            return _read(simulator, call[1], request)
        body = await request.read()
        return _change(simulator, call, json.loads(body) if body else None)
    except ConfigurationError as error:
        return message(400, str(error))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return message(400, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
    except ValueError as error:
        return message(400, f"the body is not valid: {error}")


def _read(simulator: Controlled, name: str, request: web.BaseRequest) -> web.Response:
    if name == "stats":
        return _json(simulator.stats())
    if name == "scenario":
        return _json(simulator.scenario.model_dump(mode="json", exclude_defaults=True))
    if name == "scenarios":
        return _json({known: scenarios.built_in(known).description for known in scenarios.NAMES})
    if name == "requests":
        limit = int(request.query.get("limit", _DEFAULT_LISTED))
        listing = [seen.to_json() for seen in simulator.requests]
        return _json({"requests": listing[-limit:] if limit > 0 else listing})
    return message(404)


def _change(simulator: Controlled, call: tuple[str, str], data: Any) -> web.Response:
    if call == ("POST", "scenario"):
        if isinstance(data, dict) and set(data) == {"name"}:
            data = data["name"]
        if not isinstance(data, (str, dict)):
            raise ConfigurationError("a scenario is a name or an object")
        simulator.set_scenario(data)
    elif call == ("POST", "rate"):
        rate = data.get("rate") if isinstance(data, dict) else None
        if not isinstance(rate, int) or isinstance(rate, bool) or not 0 <= rate <= _MAX_RATE:
            raise ConfigurationError(f"rate must be a whole number from 0 to {_MAX_RATE}")
        simulator.set_rate(rate)
    elif call == ("POST", "catalogue"):
        edits = dict(data) if isinstance(data, dict) else {}
        if edits.pop("restore", False) is True:
            simulator.restore_catalogue()
        simulator.change_catalogue(CatalogueEdits.model_validate(edits))
    elif call == ("POST", "reset"):
        simulator.reset()
    else:
        return message(404)
    return _json(simulator.stats())


def _json(data: Any) -> web.Response:
    return web.Response(body=json.dumps(data, ensure_ascii=False).encode(), content_type="application/json")
