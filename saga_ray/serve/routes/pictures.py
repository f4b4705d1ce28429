"""Files in: embeddings, or where the encoder looked."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile

from saga_ray.serve.errors import ApiError
from saga_ray.serve.json import Json
from saga_ray.serve.schemas import AttentionReply, EmbedReply
from saga_ray.serve.service import Asked, ServiceHere

router = APIRouter(tags=["pictures"])


@router.post("/embed", response_model=EmbedReply)
async def embed(
    service: ServiceHere,
    files: Annotated[list[UploadFile], File(default_factory=list, description="pictures")],
    texts: Annotated[list[str], Form(default_factory=list, description="texts, where the model takes them")],
) -> Json:
    """L2-normalised embeddings of picture files and then of texts, each in their order."""
    most, count = service.settings.request_pictures, len(files) + len(texts)
    if not count:
        raise ApiError(400, "files is missing: send a picture, or a text in texts", code="missing")
    if count > most:
        raise ApiError(
            400, f"{count:,} files and texts were sent: at most {most:,} go in a request", param="files"
        )
    asked = [Asked(f"files.{place}", await file.read()) for place, file in enumerate(files)]
    asked += [Asked(f"texts.{place}", text=text) for place, text in enumerate(texts)]
    embedded = await service.with_items(asked, service.backend.embed, endpoint="/embed")
    data = [{"index": index, "embedding": z_E} for index, z_E in enumerate(embedded.z_BE.tolist())]
    return Json({"model": (await service.card()).id, "data": data})


@router.post("/attention", response_model=AttentionReply)
async def attention(file: Annotated[UploadFile, File(description="a picture")], service: ServiceHere) -> Json:
    """The pooler's attention over the patches of the picture's centre square; not of an embedder."""
    asked = [Asked("file", await file.read())]
    beta_1N = await service.with_items(asked, service.backend.attention, endpoint="/attention")
    side = math.isqrt(beta_1N.shape[1])
    if side * side != beta_1N.shape[1]:
        raise ApiError(404, "this model's patches are no square grid", code="no_grid")
    return Json({"rows": side, "columns": side, "weights": beta_1N[0].tolist()})
