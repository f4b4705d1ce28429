"""Neighbours in the index, of a picture or of one of its rows, and the rows' small pictures."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from saga_ray.retrieval.index import Hit
from saga_ray.serve.backend import NoIndex
from saga_ray.serve.errors import ApiError
from saga_ray.serve.json import Json
from saga_ray.serve.schemas import SearchReply, SearchRequest
from saga_ray.serve.service import ServiceHere, Source

router = APIRouter(tags=["search"])
K = SearchRequest.model_fields["k"].default
FORM = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "a picture",
        },
        "k": {"type": "integer", "minimum": 1, "default": K, "description": "how many"},
    },
    "required": ["file"],
}
BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": FORM},
        "application/json": {"schema": SearchRequest.model_json_schema()},
    },
}


@router.post("/search", response_model=SearchReply, openapi_extra={"requestBody": BODY})
async def search(request: Request, service: ServiceHere) -> Json:
    """The rows of the index nearest to a picture: a file with the form's field k, or JSON with a picture or
    the id of a row.
    """
    asked, source = await _read(request)
    if asked.k > service.settings.neighbours:
        raise ApiError(400, f"k is {asked.k}: at most {service.settings.neighbours} are given", param="k")
    card = await service.card()
    if card.index is None:
        raise NoIndex
    if asked.id is not None:
        found = await service.backend.neighbours(asked.id, asked.k)
        if found is None:
            raise ApiError(404, "the index has no row of that id", param="id", code="no_such_row")
        hits = found
    else:
        assert source is not None
        [hits] = await service.with_pictures(
            [source],
            lambda images: service.backend.search(images, asked.k),
            endpoint="/search",
            params=["image" if isinstance(source, str) else "file"],
        )
    return Json({"model": card.id, "hits": [_shown(hit) for hit in hits]})


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


async def _read(request: Request) -> tuple[SearchRequest, Source | None]:
    """The request, in whichever of its two forms, and its picture."""
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        async with request.form() as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise ApiError(400, "the form lacks the picture, a file called file", param="file")
            values: dict[str, Any] = {"image": "", "k": form.get("k", K)}
            return _checked(lambda: SearchRequest.model_validate(values)), await file.read()
    content = await request.body()
    asked = _checked(lambda: SearchRequest.model_validate_json(content))
    if (asked.image is None) == (asked.id is None):
        raise ApiError(400, "give a picture (image) or the id of a row of the index (id), one of the two")
    return asked, asked.image


def _checked(read: Any) -> SearchRequest:
    """Pydantic's complaints as those of all other endpoints."""
    try:
        request: SearchRequest = read()
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_input=False)) from None
    return request


def _shown(hit: Hit) -> dict[str, Any]:
    return {
        "id": hit.id,
        "score": hit.score,
        "label": hit.label,
        "metadata": hit.metadata,
        "thumbnail": f"/thumbnails/{quote(hit.id, safe='')}",
    }
