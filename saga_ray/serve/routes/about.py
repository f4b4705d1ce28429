"""Is it alive, is it ready, what does it serve, how much does it do; and the page."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse

from saga_ray.serve.docs import page_of
from saga_ray.serve.errors import ApiError
from saga_ray.serve.json import Json
from saga_ray.serve.metrics import to_text
from saga_ray.serve.schemas import ErrorReply, ModelsReply, Status
from saga_ray.serve.service import ServiceHere

router = APIRouter(tags=["about"])
PAGE = Path(__file__).parents[1] / "page"
READY_S = 5.0
CONTENT_POLICY = {
    # The page needs nothing from elsewhere; pictures dropped on it are shown from memory.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self' "
    "'unsafe-inline'; frame-ancestors 'none'",
}


@router.get("/healthz", response_model=Status)
async def healthz() -> Json:
    """The HTTP layer answers."""
    return Json({"status": "ok"})


@router.get(
    "/readyz", response_model=Status, responses={503: {"model": ErrorReply, "description": "not yet"}}
)
async def readyz(service: ServiceHere) -> Json:
    """The model answers."""
    try:
        async with asyncio.timeout(READY_S):
            await service.card(fresh=True)
    except Exception as error:
        raise ApiError(503, "the model does not answer yet", headers={"Retry-After": "1"}) from error
    return Json({"status": "ready"})


@router.get("/models", response_model=ModelsReply)
async def models(service: ServiceHere) -> Json:
    """The model and its index. `hash` is of its weights, configuration and preprocessing."""
    card = await service.card(fresh=True)
    shown = {
        "id": card.id,
        "image_size": card.image_size,
        "embedding_size": card.embedding_size,
        "hash": card.hash,
        "accepts": card.takes,
        "attention": card.attention,
        "index": None if card.index is None else {"size": card.index.size, "kind": card.index.kind},
    }
    return Json({"data": [shown]})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Numbers for Prometheus, over all replicas."""
    text = to_text(await request.app.state.numbers())
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request) -> Response:
    """This, to be read."""
    return HTMLResponse(page_of(request.app.openapi()), headers=CONTENT_POLICY)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page to try it."""
    return FileResponse(PAGE / "index.html", headers=CONTENT_POLICY)
