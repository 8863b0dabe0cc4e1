"""A service with FastAPI that asks another one through httpx. Ten lines protect its calls: they end in "# +".

STOCK_URL=https://stock.example.com uvicorn fastapi_service:app --app-dir docs/examples
"""

import contextlib
import math
import os
from collections.abc import AsyncIterator
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from otel_resilience import CircuitBreakerConfig, CircuitOpenError, Policy, RetryConfig  # +
from otel_resilience.integrations.httpx import AsyncResilientTransport  # +

stock = Policy("stock", retry=RetryConfig(), breaker=CircuitBreakerConfig(), deadline=5, attempt_timeout=2)  # +


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    transport = AsyncResilientTransport(stock)  # +
    async with httpx.AsyncClient(base_url=os.environ["STOCK_URL"], transport=transport) as app.state.stock:
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(CircuitOpenError)  # +
async def unavailable(_: Request, error: CircuitOpenError) -> JSONResponse:  # +
    problem = {"type": "about:blank", "title": f"{error.dependency} is unavailable", "status": 503}  # +
    headers = {"Retry-After": str(math.ceil(error.retry_after or 60))}  # +
    return JSONResponse(problem, 503, headers, media_type="application/problem+json")  # +


def stock_client(request: Request) -> httpx.AsyncClient:
    client: httpx.AsyncClient = request.app.state.stock
    return client


@app.get("/products/{name}")
async def product(name: str, client: Annotated[httpx.AsyncClient, Depends(stock_client)]) -> dict[str, object]:
    template = {"url_template": "/stock/{name}"}  # +
    answer = await client.get(f"/stock/{name}", extensions=template)
    return {"name": name, "stock": answer.json() if answer.is_success else None}
