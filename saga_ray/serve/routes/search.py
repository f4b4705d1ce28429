"""Neighbours in the index of a picture, a text, a row of it, or a picture with an instruction; and the rows'
small pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from saga_ray.retrieval.index import Hit
from saga_ray.serve.backend import Card, NoIndex
from saga_ray.serve.errors import ApiError, not_taken
from saga_ray.serve.held import MIB
from saga_ray.serve.json import Json
from saga_ray.serve.schemas import ComposeRequest, SearchReply, SearchRequest
from saga_ray.serve.service import Asked, Service, ServiceHere

router = APIRouter(tags=["search"])
Body = TypeVar("Body", SearchRequest, ComposeRequest)
NO_ROW = "the index has no row of that id"
FILE = {
    "type": "string",
    "contentMediaType": "application/octet-stream",
    "description": "a picture",
}


def _documented(kind: type[SearchRequest] | type[ComposeRequest]) -> dict[str, Any]:
    """A body in both its forms; the multipart one has the picture as a file besides."""
    schema = kind.model_json_schema()
    form = {**schema, "properties": {"file": FILE, **schema["properties"]}}
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": form}, "application/json": {"schema": schema}},
        }
    }


@router.post("/search", response_model=SearchReply, openapi_extra=_documented(SearchRequest))
async def search(request: Request, service: ServiceHere) -> Json:
    """The rows of the index nearest to a picture, to a text where the model takes texts, or to one of its
    rows. Give one of the three, as JSON or as a form, which may have the picture as a file.
    """
    body, file = await _read(request, SearchRequest, service)
    _require_one("a text, a picture or the id of a row", body.text, body.image, file, body.id)
    card = await _card(service, body.k)
    if body.id is not None:
        hits = await service.backend.neighbours(body.id, body.k)
        if hits is None:
            raise ApiError(404, NO_ROW, param="id", code="no_such_row")
    elif body.text is not None:
        hits = await _nearest(service, Asked("text", text=body.text), body.k, "/search")
    else:
        hits = await _nearest(service, _picture(body.image, file), body.k, "/search")
    return _reply(card, hits)


@router.post("/compose", response_model=SearchReply, openapi_extra=_documented(ComposeRequest))
async def compose(request: Request, service: ServiceHere) -> Json:
    """The rows of the index nearest to what an instruction makes of a picture. The picture may be a row's:
    its small one is then taken, and the row is left out. As JSON or as a form, which may have the picture as
    a file. Only with a model that composes.
    """
    if "composed" not in (await service.card()).takes:
        raise not_taken("composed")
    body, file = await _read(request, ComposeRequest, service)
    _require_one("a picture or the id of a row", body.image, file, body.id)
    card = await _card(service, body.k)
    if body.id is None:
        picture = _picture(body.image, file, body.instruction)
        return _reply(card, await _nearest(service, picture, body.k, "/compose"))
    small = await service.backend.thumbnail(body.id)
    if small is None:
        raise ApiError(404, NO_ROW, param="id", code="no_such_row")
    hits = await _nearest(service, Asked("id", small, body.instruction), body.k + 1, "/compose")
    return _reply(card, [hit for hit in hits if hit.id != body.id][: body.k])


@router.get(
    "/thumbnails/{id:path}",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}, "description": "JPEG"}},
)
async def thumbnail(id: str, service: ServiceHere) -> Response:
    """A row's small picture."""
    content = await service.backend.thumbnail(id)
    if content is None:
        raise ApiError(404, "there is no small picture of that id", param="id", code="no_such_row")
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})


async def _read(request: Request, kind: type[Body], service: Service) -> tuple[Body, bytes | None]:
    """The body, in whichever of its two forms, and its file."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        content = await request.body()
        return _checked(lambda: kind.model_validate_json(content)), None
    # a field may hold a picture: of its size there is one limit, the body's
    async with request.form(max_part_size=int(service.settings.request_mib * MIB)) as form:
        file = form.get("file")
        fields = {name: form[name] for name in kind.model_fields if name in form}
        body = _checked(lambda: kind.model_validate(fields))
        return body, await file.read() if isinstance(file, UploadFile) else None


def _checked(read: Callable[[], Body]) -> Body:
    """Pydantic's complaints as those of all other endpoints."""
    try:
        return read()
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_input=False)) from None


def _require_one(what: str, *given: object) -> None:
    if sum(each is not None for each in given) != 1:
        raise ApiError(400, f"give {what}, one of these; a picture is a form's file, or base64 in image")


def _picture(image: str | None, file: bytes | None, instruction: str | None = None) -> Asked:
    if file is None:
        return Asked("image", image, instruction)
    return Asked("file", file, instruction)


async def _card(service: Service, k: int) -> Card:
    """The model's, once it is known that it has an index of which so many may be asked for."""
    if k > service.settings.neighbours:
        raise ApiError(400, f"k is {k}: at most {service.settings.neighbours} are given", param="k")
    card = await service.card()
    if card.index is None:
        raise NoIndex
    return card


async def _nearest(service: Service, asked: Asked, k: int, endpoint: str) -> list[Hit]:
    [hits] = await service.with_items(
        [asked], lambda items: service.backend.search(items, k), endpoint=endpoint
    )
    return hits


def _reply(card: Card, hits: list[Hit]) -> Json:
    return Json({"model": card.id, "hits": [_shown(hit) for hit in hits]})


def _shown(hit: Hit) -> dict[str, Any]:
    return {
        "id": hit.id,
        "score": hit.score,
        "label": hit.label,
        "metadata": hit.metadata,
        "thumbnail": f"/thumbnails/{quote(hit.id, safe='')}",
    }
