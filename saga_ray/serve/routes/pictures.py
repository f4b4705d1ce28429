"""Picture files in: embeddings, or where the encoder looked."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, File, UploadFile

from saga_ray.serve.errors import ApiError
from saga_ray.serve.json import Json
from saga_ray.serve.schemas import AttentionReply, EmbedReply
from saga_ray.serve.service import ServiceHere

router = APIRouter(tags=["pictures"])


@router.post("/embed", response_model=EmbedReply)
async def embed(
    files: Annotated[list[UploadFile], File(description="one or more pictures")],
    service: ServiceHere,
) -> Json:
    """L2-normalised embeddings of picture files, in the order of the files."""
    most = service.settings.request_pictures
    if len(files) > most:
        raise ApiError(
            400, f"{len(files):,} files were sent: at most {most:,} go in a request", param="files"
        )
    sources = [await file.read() for file in files]
    params = [f"files.{place}" for place in range(len(files))]
    z_BE = await service.with_pictures(sources, service.backend.embed, endpoint="/embed", params=params)
    data = [{"index": index, "embedding": z_E} for index, z_E in enumerate(z_BE.tolist())]
    return Json({"model": (await service.card()).id, "data": data})


@router.post("/attention", response_model=AttentionReply)
async def attention(file: Annotated[UploadFile, File(description="a picture")], service: ServiceHere) -> Json:
    """The pooler's attention over the patches of the picture's centre square."""
    beta_1N = await service.with_pictures(
        [await file.read()], service.backend.attention, endpoint="/attention", params=["file"]
    )
    side = math.isqrt(beta_1N.shape[1])
    if side * side != beta_1N.shape[1]:
        raise ApiError(404, "this model's patches are no square grid", code="no_grid")
    return Json({"rows": side, "columns": side, "weights": beta_1N[0].tolist()})


@router.post("/compose")
async def compose() -> Json:
    """A picture and an instruction: not with this model, which takes no text."""
    raise ApiError(
        404,
        "this model takes no text: to search with a picture and an instruction, serve a composed model",
        code="no_text",
    )
