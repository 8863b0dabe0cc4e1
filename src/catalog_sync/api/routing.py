"""Routes that refuse what FastAPI would ignore: unknown and repeated parameters, and bodies without bounds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from catalog_sync.api.parameters import JsonRequest, check_query

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """One path and method; ``GET`` also answers ``HEAD``. Only the parameters of the endpoint are taken, each once."""

    def get_route_handler(self) -> Handler:
        """Checks the query, then lets FastAPI parse."""
        handle = super().get_route_handler()
        known = _names(self)
        bounded = self.body_field is not None

        async def checked(request: Request) -> Response:
            check_query(request.scope["query_string"], known)
            return await handle(JsonRequest(request.scope, request.receive) if bounded else request)

        return checked

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the request is for this route."""
        return super().matches({**scope, "method": "GET"} if scope["method"] == "HEAD" else scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises an ``HTTPException`` that names every method of this path."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in (self.methods or ()):
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(_offered(scope)))})
        await self.app(scope, receive, send)


def _names(route: APIRoute) -> tuple[str, ...]:
    """The query parameters of a route; those of a model are its fields."""
    names: list[str] = []
    for field in route.dependant.query_params:
        kind = field.field_info.annotation
        names += kind.model_fields if inspect.isclass(kind) and issubclass(kind, BaseModel) else [field.alias]
    return tuple(names)


def _offered(scope: Scope) -> set[str]:
    anything = {**scope, "method": ""}
    routes = (route for route in scope["router"].routes if isinstance(route, Route))
    offered = {method for route in routes if route.matches(anything)[0] != Match.NONE for method in route.methods or ()}
    return offered | {"HEAD"} if "GET" in offered else offered
