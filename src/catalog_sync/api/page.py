"""The live page, and the files of all pages: served from memory."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from catalog_sync.api.pages.frame import POLICY, controls
from catalog_sync.api.parameters import PathText

_TYPES: Final = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
    "shared.js": "text/javascript; charset=utf-8",
    "waterfall.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Page:
    """The files, read once."""

    def __init__(self) -> None:
        folder = files("catalog_sync.api") / "static"
        self._files = {name: (folder / name).read_bytes() for name in _TYPES}
        page = self._files["page.html"]
        self._files["page.html"] = page.replace(b"<!-- controls -->", controls("/").encode())

    async def index(self, request: Request) -> Response:
        """The page for people."""
        return self._file(request, "page.html")

    async def static(self, request: Request, name: PathText) -> Response:
        """A part of the page."""
        if name not in self._files or name == "page.html":
            raise HTTPException(404)
        return self._file(request, name)

    def _file(self, request: Request, name: str) -> Response:
        body = self._files[name]
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        if request.headers.get("if-none-match") == tag:
            return Response(None, 304, headers)
        headers["Content-Type"] = _TYPES[name]
        return Response(body, 200, headers)
