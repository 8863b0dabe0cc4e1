"""How each fault is sent on the wire."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from esim_go_simulator.faults import Rule, draw

JSON: Final = "application/json"
_CHUNK: Final = 256 * 1024
_DRIP_INTERVAL: Final = 0.1

MESSAGES: Final = {
    400: "Invalid perPage value",
    401: "access denied",
    403: "access denied",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Rate limit exceeded",
    500: "Internal server error",
    503: "Processing, please come back later",
}
"""The supplier's own messages."""

_RETRY_AFTER: Final = {429: 1.0, 503: 5.0}
_GATEWAY: Final = {502: "Bad Gateway", 504: "Gateway Time-out"}

_NO_LIST: Final = {
    "null_bundles": b'{"bundles":null}',
    "contradiction": b'{"bundles":[],"rows":5148,"pageCount":103}',
    "empty": b"",
}

_PRICE: Final = re.compile(rb'("price"\s*:\s*)("[^"]*"|[-+0-9.eE]+|null)')
_DURATION: Final = re.compile(rb'("duration"\s*:\s*)("[^"]*"|[-+0-9.eE]+|null)')
_ISO: Final = re.compile(rb'("iso"\s*:\s*)("[^"]*"|null)')

Defect = Callable[[bytes], bytes]
_DEFECTS: Final[tuple[Defect, ...]] = (
    lambda row: _PRICE.sub(rb'\g<1>"N/A"', row, count=1),
    lambda row: _ISO.sub(rb'\g<1>"XX"', row),
    lambda row: _DURATION.sub(rb"\g<1>0", row, count=1),
)


def message(status: int, text: str | None = None, headers: dict[str, str] | None = None) -> web.Response:
    """An error as the supplier sends it."""
    body = json.dumps({"message": text or MESSAGES.get(status, "error")}).encode()
    return web.Response(status=status, body=body, content_type=JSON, headers=headers)


def status_fault(rule: Rule, now: float) -> web.Response:
    """A status with its documented body; 502 and 504 are a gateway's HTML page. ``now``: wall clock, epoch seconds."""
    headers: dict[str, str] = {}
    wait = _RETRY_AFTER.get(rule.status) if rule.retry_after is None else rule.retry_after
    if isinstance(wait, float):
        headers["Retry-After"] = formatdate(now + wait, usegmt=True) if rule.retry_after_date else f"{wait:g}"
    reason = _GATEWAY.get(rule.status)
    if reason is not None and rule.message is None:
        return web.Response(
            status=rule.status, text=_html(f"{rule.status} {reason}"), content_type="text/html", headers=headers
        )
    return message(rule.status, rule.message, headers)


def content_fault(rule: Rule, body: bytes) -> web.Response | None:
    """Responses with status 200 and the wrong content, in one piece. ``body`` is the right one."""
    kind = rule.fault
    if kind == "html":
        return web.Response(text=_html("Please try again"), content_type="text/html")
    if kind in _NO_LIST:
        return web.Response(body=_NO_LIST[kind], content_type=JSON)
    if kind == "bad_encoding":
        return web.Response(body=body, content_type=JSON, headers={"Content-Encoding": "gzip"})
    return None


def redirect(rule: Rule, request: web.BaseRequest) -> web.Response | None:
    """A redirect; ``None`` if a ``same-host`` one was followed already. The Location never contains the key."""
    query = {name: value for name, value in request.query.items() if name != "hop"}
    hop = request.query.get("hop", "0")
    count = int(hop) if hop.isascii() and hop.isdigit() and len(hop) < 10 else 0
    host, _, port = request.host.rpartition(":") if ":" in request.host else (request.host, "", "")
    if rule.location is not None:
        location = rule.location
    elif rule.to == "other-host":
        # The same server by its other name: a key that is sent there appears in the request log.
        other = "127.0.0.1" if host == "localhost" else "localhost"
        location = f"http://{other}{':' + port if port else ''}{request.path}?{urlencode(query)}"
    elif rule.to == "plain-http":
        location = f"http://{request.host}{request.path}?{urlencode(query)}"
    elif rule.to == "same-host" and count:
        return None
    else:
        location = f"{request.path}?{urlencode({**query, 'hop': str(count + 1)})}"
    return web.Response(status=302, headers={"Location": location})


def spoil_rows(rows: list[bytes], ratio: float, seed: int) -> list[bytes]:
    """The rows, with a wrong price, country or duration in this share of them, always the same ones."""
    return [_spoil(row, ratio, seed) for row in rows]


def _spoil(row: bytes, ratio: float, seed: int) -> bytes:
    chance = draw(f"{seed} {zlib.crc32(row)}")
    if chance >= ratio:
        return row
    return _DEFECTS[zlib.crc32(row) % len(_DEFECTS)](row)


def price_as_string(row: bytes) -> bytes:
    """The row with its price in quotes, digits unchanged."""
    return re.sub(rb'("price"\s*:\s*)([-+0-9.eE]+)', rb'\g<1>"\g<2>"', row, count=1)


async def truncated(request: web.BaseRequest, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """Half the body with the full Content-Length, then closes the connection."""
    response = _stream(headers)
    response.content_length = max(len(body), 2)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    close(request)
    return response


async def drip(
    request: web.BaseRequest, body: bytes, headers: dict[str, str], bytes_per_s: float
) -> web.StreamResponse:
    """The whole body, slowly: ten pieces a second."""
    response = _stream(headers)
    response.content_length = len(body)
    await response.prepare(request)
    piece = max(int(bytes_per_s * _DRIP_INTERVAL), 1)
    for start in range(0, len(body), piece):
        if start:
            await asyncio.sleep(piece / bytes_per_s)
        await response.write(body[start : start + piece])
    await response.write_eof()
    return response


async def oversized(request: web.BaseRequest, headers: dict[str, str], size: int, *, gzip: bool) -> web.StreamResponse:
    """A JSON object of ``size`` bytes without Content-Length, compressed if ``gzip``."""
    response = _stream(headers)
    if gzip:
        response.headers["Content-Encoding"] = "gzip"
    response.enable_chunked_encoding()
    await response.prepare(request)
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    async for piece in _padding(size):
        data = packer.compress(piece) if gzip else piece
        if data:
            await response.write(data)
    if gzip:
        await response.write(packer.flush())
    await response.write_eof()
    return response


async def _padding(size: int) -> AsyncIterator[bytes]:
    head, tail = b'{"bundles":[],"padding":"', b'"}'
    yield head
    left = max(size - len(head) - len(tail), 0)
    blank = b" " * _CHUNK
    while left > 0:
        yield blank[: min(left, _CHUNK)]
        left -= _CHUNK
        await asyncio.sleep(0)
    yield tail


def reset(request: web.BaseRequest) -> None:
    """Closes the connection with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def close(request: web.BaseRequest) -> None:
    """Closes the connection normally, after what was written."""
    if request.transport is not None:
        request.transport.close()


def _stream(headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    response.content_type = JSON
    return response


def _html(title: str) -> str:
    return f"<html>\n<head><title>{title}</title></head>\n<body>\n<center><h1>{title}</h1></center>\n</body>\n</html>\n"
