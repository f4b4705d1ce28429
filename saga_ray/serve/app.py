"""The HTTP layer: an ASGI app over any `Backend`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import Lifespan

from saga_ray.config.serving import ServeSettings
from saga_ray.serve import errors
from saga_ray.serve.backend import Backend
from saga_ray.serve.gate import WITHOUT_TOKEN, Gate
from saga_ray.serve.metrics import Meter, Numbers
from saga_ray.serve.routes import about, openai, pictures, search
from saga_ray.serve.schemas import ErrorReply
from saga_ray.serve.service import Service

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "model": ErrorReply,
        "description": "something is wrong with the request, or there is no room (429)",
    },
    504: {"model": ErrorReply, "description": "the request took too long"},
}


def create_app(
    settings: ServeSettings,
    backend: Backend,
    *,
    token: str | None = None,
    meter: Meter | None = None,
    numbers: Callable[[], Awaitable[Numbers]] | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
) -> FastAPI:
    """The app. `token` is what clients must send; `meter` counts here; `numbers` gives what /metrics shows,
    by default what `meter` has counted; `lifespan` runs around the serving.
    """
    meter = meter or Meter()
    app = FastAPI(
        title="saga",
        description="Embeddings of pictures, of texts where the model takes them, and the pictures of an "
        "index that are nearest.",
        version=version("saga-ray"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=ERRORS,
        # A schema's name says in or out already; one for both keeps the document short.
        separate_input_output_schemas=False,
    )
    app.state.service = Service(settings, backend, meter)
    app.state.numbers = numbers or _summing(meter)
    errors.install(app, settings.retry_after_s)
    for part in (openai, pictures, search, about):
        app.include_router(part.router)
    app.mount("/page", StaticFiles(directory=about.PAGE))
    app.add_middleware(Gate, settings=settings, token=token, meter=meter)
    if token is not None:
        _document_token(app)
    return app


def _summing(meter: Meter) -> Callable[[], Awaitable[Numbers]]:
    total = Numbers()

    async def numbers() -> Numbers:
        total.add(meter.take())
        return total

    return numbers


def _document_token(app: FastAPI) -> None:
    """Say in the OpenAPI document which endpoints want the token."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in document["paths"].items():
            for operation in methods.values():
                operation["security"] = [] if path in WITHOUT_TOKEN else [{"token": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
