"""A small encoder and a small embedder, an index of each, pictures of every kind, and the app over them
without a network.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from saga_ray.composed.embedder import Embedder
from saga_ray.config.serving import ServeSettings
from saga_ray.config.settings import DataSettings, EvaluationSettings
from saga_ray.data import sources
from saga_ray.data.decoding import centre_square, decode
from saga_ray.models import supervisors
from saga_ray.models.encoder import Encoder
from saga_ray.models.pooler import Pooler
from saga_ray.retrieval.index.build import build
from saga_ray.serve import models
from saga_ray.serve.app import create_app
from saga_ray.serve.engine import Engine
from saga_ray.serve.metrics import Meter
from tests.tiny import PIXELS, TOKEN_WIDTH, TinyTower

WIDTH = 6  # of the embedding
ROWS = 12
T = TypeVar("T")


def save_encoder(folder: Path, seed: int = 0) -> Path:
    """A tiny encoder that looks somewhere; returns the folder."""
    encoder = Encoder(TinyTower(seed), Pooler(TOKEN_WIDTH, WIDTH))
    generator = torch.Generator().manual_seed(seed)
    encoder.pooler.query.data = torch.randn(TOKEN_WIDTH, generator=generator)
    encoder.save(folder)
    return folder


def save_embedder(folder: Path) -> Path:
    """The shipped supervisor as an embedder of composed retrieval, untrained; returns the folder."""
    Embedder(supervisors.load("furniture-pocket"), seed=0).save(folder)
    return folder


def picture(seed: int = 0, size: tuple[int, int] = (20, 16)) -> Image.Image:
    """An RGB picture of a few coloured squares."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(seed: int = 0) -> bytes:
    """A small picture's file."""
    return encoded(picture(seed))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, kind: str = "image/png") -> str:
    """As clients of OpenAI send pictures."""
    return f"data:{kind};base64,{base64_of(data)}"


def build_index(model: Path, folder: Path) -> Path:
    """An index of `ROWS` pictures of two classes, with ids `p/0` to `p/11` and a price."""
    pictures = folder.with_name(folder.name + "-pictures")
    pictures.mkdir()
    with (pictures / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "image", "label", "price"])
        for row in range(ROWS):
            (pictures / f"{row}.png").write_bytes(png(row))
            table.writerow([f"p/{row}", f"{row}.png", "chair" if row % 2 else "table", row * 10])
    data = sources.load(DataSettings(source=str(pictures / "table.csv")), seed=0)
    build(models.load(model, "cpu"), data, folder, EvaluationSettings(), source="test", local=True)
    return folder


def embedding_of(model: Path, *files: bytes) -> NDArray[np.float32]:
    """What the encoder itself makes of files."""
    encoder = Encoder.load(model)
    images = np.stack([centre_square(decode(file, PIXELS), PIXELS) for file in files])
    with torch.no_grad():
        z_BE: NDArray[np.float32] = encoder(torch.from_numpy(images)).numpy()
    return z_BE


@asynccontextmanager
async def client_of(app: Any, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an ASGI app; errors inside the app are answers, as for real clients."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", **options) as client:
        yield client


def app_of(model: Path, index: Path | None = None, *, token: str | None = None, **settings: Any) -> Any:
    """The app over an encoder in this process."""
    own = ServeSettings(name="tiny", index=None if index is None else str(index), **settings)
    meter = Meter()
    return create_app(own, Engine(model, own, meter=meter), token=token, meter=meter)


def asked(app: Any, ask: Callable[[httpx.AsyncClient], Awaitable[T]], **options: Any) -> T:
    """What a client gets from an app."""

    async def run() -> T:
        async with client_of(app, **options) as client:
            return await ask(client)

    return asyncio.run(run())


def post(app: Any, path: str, **request: Any) -> httpx.Response:
    """The answer to one request."""
    return asked(app, lambda client: client.post(path, **request))


def get(app: Any, path: str, **request: Any) -> httpx.Response:
    """The answer to one request."""
    return asked(app, lambda client: client.get(path, **request))


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error in an answer of this status; checks that it is one sentence in OpenAI's shape."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and "\n" not in error["message"] and len(error["message"]) < 200, error
    assert "Traceback" not in error["message"] and " object at 0x" not in error["message"]
    return error
