"""Embeddings as OpenAI's clients ask for them; the input is pictures, and texts where the
model takes those.
"""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter

from saga_ray.serve.backend import Card, Numbers
from saga_ray.serve.errors import ApiError
from saga_ray.serve.held import Held, HeldHere
from saga_ray.serve.inputs import is_address, is_data_url
from saga_ray.serve.json import Json
from saga_ray.serve.schemas import EmbeddingsReply, EmbeddingsRequest, OpenAIModel, OpenAIModels
from saga_ray.serve.service import Asked, Service, ServiceHere

router = APIRouter(prefix="/v1", tags=["OpenAI"])
PICTURES_ONLY = (
    'this model takes pictures and no text: give data:image/…;base64,… or {"image": base64}, or serve a '
    "model that `saga cir train` made"
)
PICTURES_AND_TEXTS = 'give a text, or a picture as data:image/…;base64,… or {"image": base64}'


@router.post("/embeddings", response_model=EmbeddingsReply)
async def embeddings(body: EmbeddingsRequest, service: ServiceHere, held: HeldHere) -> Json:
    """L2-normalised embeddings of pictures, and of texts where the model takes them, in the order of the
    input.
    """
    card = await service.card()
    check_model(body.model, card)
    width = body.dimensions or card.embedding_size
    if width > card.embedding_size:
        raise ApiError(
            400, f"dimensions is {width}: the embedding has {card.embedding_size}", param="dimensions"
        )
    items = body.input if isinstance(body.input, list) else [body.input]
    expected = PICTURES_AND_TEXTS if "text" in card.takes else PICTURES_ONLY
    _check(items, service.settings.request_pictures, expected)
    params = [f"input.{place}" for place in range(len(items))] if body.input is items else ["input"]
    asked = []
    for item, param in zip(items, params, strict=True):
        each = _asked(item, param, card, service, held)
        if each is None:
            raise ApiError(400, expected, param=param, code="not_a_picture")
        asked.append(each)
    embedded = await service.with_items(asked, service.backend.embed, endpoint="/v1/embeddings")
    z_BE = embedded.z_BE
    if width < z_BE.shape[1]:
        z_BE = z_BE[:, :width] / np.maximum(np.linalg.norm(z_BE[:, :width], axis=1, keepdims=True), 1e-12)
    return Json(
        {
            "object": "list",
            "model": card.id,
            "data": [
                {"object": "embedding", "index": index, "embedding": value}
                for index, value in enumerate(_written(z_BE, body.encoding_format))
            ],
            "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
        }
    )


@router.get("/models", response_model=OpenAIModels)
async def models(service: ServiceHere) -> Json:
    """The one model, in OpenAI's shape; /models says more."""
    return Json({"object": "list", "data": [_model(await service.card(fresh=True))]})


@router.get("/models/{model:path}", response_model=OpenAIModel)
async def model(model: str, service: ServiceHere) -> Json:
    """The model by its id."""
    card = await service.card(fresh=True)
    check_model(model, card)
    return Json(_model(card))


def _model(card: Card) -> dict[str, Any]:
    return {"id": card.id, "object": "model", "created": 0, "owned_by": "saga"}


def check_model(asked: str | None, card: Card) -> None:
    """Refuse a name that is not the served model's."""
    if asked is not None and asked != card.id:
        raise ApiError(
            404,
            f"there is no model of that name here: this server has {card.id!r}",
            param="model",
            code="model_not_found",
        )


def _check(items: list[Any], most: int, expected: str) -> None:
    """Refuse lists that are no lists of what is expected."""
    if not items:
        raise ApiError(400, "input is empty: give one item at least", param="input")
    first = items[0]
    if isinstance(first, int | float) or (
        isinstance(first, list) and all(isinstance(each, int) for each in first)
    ):
        raise ApiError(400, f"input holds token ids; {expected}", param="input")
    if len(items) > most:
        raise ApiError(
            400, f"input has {len(items):,} items: at most {most:,} go in a request", param="input"
        )


def _asked(item: Any, param: str, card: Card, service: Service, held: Held) -> Asked | None:
    """An item of the input; none where it is nothing that the model takes."""
    picture = isinstance(item, dict) and set(item) == {"image"}
    said = item["image"] if picture else item
    if not isinstance(said, str):
        return None
    if is_address(said):
        return Asked(param, partial(service.fetch, said, held))
    if picture or is_data_url(said):
        return Asked(param, said)
    return Asked(param, text=said) if "text" in card.takes else None


def _written(z_BE: Numbers, encoding: str) -> list[Any]:
    if encoding == "float":
        numbers: list[Any] = z_BE.tolist()
        return numbers
    return [base64.b64encode(z_E.astype("<f4").tobytes()).decode() for z_E in z_BE]
