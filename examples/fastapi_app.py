"""A FastAPI application with a scope per request, in which one developer tries the new checkout by a signed override.

Run: python examples/fastapi_app.py                      it serves under uvicorn, and gets a few visits
     uvicorn --app-dir examples fastapi_app:app          it serves until it is stopped
Needs the extras `asgi` and `overrides`, FastAPI and uvicorn.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.requests import HTTPConnection

import flagkit
from flagkit.integrations.asgi import FlagsMiddleware


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    client = flagkit.configure(
        source=flagkit.sources.Static(
            {"schema": 1, "environment": "production", "flags": {"new-checkout": {"overridable": True}}}
        )
    )
    if keys := os.environ.get("FLAGKIT_OVERRIDE_KEYS"):
        client.allow_overrides(keys)
    yield
    client.close()


def context_of(connection: HTTPConnection) -> flagkit.Context:
    user = connection.headers.get("X-User")  # an application of yours asks its session
    attributes = {"country": connection.headers.get("X-Country", "SE")}
    return flagkit.Context(attributes=attributes) if user is None else flagkit.Context(user, attributes)


app = FastAPI(lifespan=lifespan)
app.add_middleware(FlagsMiddleware, context=context_of)


@app.get("/", response_class=PlainTextResponse)
async def checkout() -> str:
    return "the new checkout" if flagkit.enabled("new-checkout") else "the old checkout"


def main() -> None:
    from visits import running, visit

    with running("-m", "uvicorn", "--port", "0", "fastapi_app:app", said=r"running on (http://\S+)") as url:
        print("under uvicorn:")
        visit(url)


if __name__ == "__main__":
    main()
