"""Routes that reject what FastAPI would ignore: unknown and repeated parameters, and unbounded bodies.

FastAPI describes them all. It does not serve the frequent reads: their route is found by its path, and the single model
of their parameters checks the query.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from catalog_sync.api.parameters import JsonRequest, check_query
from catalog_sync.api.problems import wrong_parameters

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """One path and method; ``GET`` also answers ``HEAD``. Accepts only the parameters of the endpoint, each once."""

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
        return super().matches({**scope, "method": "GET"} if scope["method"] == "HEAD" else scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises an ``HTTPException`` that names every method of this path."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in (self.methods or ()):
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(_offered(scope)))})
        await self.app(scope, receive, send)


class ReadRoute(StrictRoute):
    """A route whose endpoint takes the request and one more argument: a model of its query, or the rest of its path."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self._known = _names(self)
        given = self.dependant.query_params
        model = given[0].field_info.annotation if given else None
        self._model = model if inspect.isclass(model) and issubclass(model, BaseModel) else None
        self.prefix = path.partition("{")[0]
        """The path up to its parameter; all of it if there is none."""

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a GET or HEAD request to an address of this route. Raises a problem, and what the endpoint raises."""
        scope["route"] = self
        query = check_query(scope["query_string"], self._known)
        wanted: object = scope["path"][len(self.prefix) :]
        if self._model is not None:
            try:
                wanted = self._model.model_validate(query)
            except ValidationError as error:
                raise wrong_parameters(error) from error
        response: Response = await self.endpoint(Request(scope, receive), wanted)
        await response(scope, receive, send)


class Addresses:
    """Passes requests for a :class:`ReadRoute` to it, all others to ``rest``."""

    def __init__(self, routes: Iterable[BaseRoute], rest: ASGIApp) -> None:
        reads = [route for route in routes if isinstance(route, ReadRoute)]
        self._exact = {route.path: route for route in reads if route.prefix == route.path}
        self._below = tuple((route.prefix, route) for route in reads if route.prefix != route.path)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self.read(scope)
        await (self._rest if route is None else route.serve)(scope, receive, send)

    def read(self, scope: Scope) -> ReadRoute | None:
        """The route that reads from memory, if the request is for one."""
        if scope["type"] != "http" or scope["method"] not in _READING:
            return None
        path: str = scope["path"]
        found = self._exact.get(path)
        return found or next((route for prefix, route in self._below if path.startswith(prefix)), None)


_READING: Final = frozenset({"GET", "HEAD"})


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
