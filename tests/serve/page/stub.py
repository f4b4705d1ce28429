"""A small server of the HTTP API that the page speaks: pictures are found by their mean colour, or by the
colour that a text or an instruction names.
"""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import saga_ray

PAGE = Path(saga_ray.__file__).parent / "serve" / "page"
COLOURS = {"red": 0, "orange": 22, "yellow": 42, "green": 85, "blue": 160, "violet": 200}
VIEWS = 4


def picture(hue: int, view: int = 0, size: tuple[int, int] = (96, 96)) -> bytes:
    """A JPEG of one hue; views differ in brightness."""
    image = Image.new("HSV", size, (hue, 200, 250 - 30 * view)).convert("RGB")
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=95)
    return file.getvalue()


def mean_colour(content: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the stub embeds with: the mean colour less its grey, of length 1."""
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.float64)
    centred: np.ndarray[Any, np.dtype[np.float64]] = pixels.mean(axis=(0, 1)) - pixels.mean()
    return centred / np.linalg.norm(centred)


@dataclass
class Stub:
    """The stub's state, which tests change, and what it was asked."""

    address: str = ""
    index: bool = True
    examples: bool = False
    accepts: tuple[str, ...] = ("image",)
    attention: bool = True
    token: str = ""
    weights: list[float] = field(default_factory=lambda: [0.02] * 6 + [0.7] + [0.02] * 9)
    refusals: dict[str, tuple[int, str, dict[str, str]]] = field(default_factory=dict)
    """Path -> status, message and headers of the answer instead."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    slow: dict[str, float] = field(default_factory=dict)
    """Path -> seconds that the next answer is held back."""

    def __post_init__(self) -> None:
        # Ids with a slash, a space and letters beyond ASCII, as indexes of folders have them.
        self.pictures = {
            f"{colour}/bild {view} ü": picture(hue, view)
            for colour, hue in COLOURS.items()
            for view in range(VIEWS)
        }

    def asked_for(self, path: str) -> list[dict[str, Any]]:
        """The fields of every request to a path, in order."""
        return [fields for each, fields in self.asked if each == path]


def application(stub: Stub) -> Starlette:
    """The API over a stub's state."""

    def hit(name: str, score: float) -> dict[str, Any]:
        return {
            "id": name,
            "score": score,
            "label": name.split("/")[0],
            "metadata": {"view": int(name.split()[1]), "maker": None},
            "thumbnail": f"/thumbnails/{quote(name, safe='')}",
        }

    async def models(request: Request) -> Response:
        index: dict[str, Any] | None = {"size": len(stub.pictures), "kind": "flat"} if stub.index else None
        if index and stub.examples:
            index["examples"] = [hit(name, 0.0) for name in list(stub.pictures)[::VIEWS]]
        model = {
            "id": "colours",
            "image_size": 96,
            "embedding_size": 3,
            "hash": "0123456789abcdef" * 4,
            "accepts": list(stub.accepts),
            "attention": stub.attention,
            "index": index,
        }
        return JSONResponse({"data": [model]})

    async def search(request: Request) -> Response:
        fields = request.state.fields
        said = fields.get("text", fields.get("instruction", ""))
        wanted = next((hue for colour, hue in COLOURS.items() if colour in said), None)
        if wanted is not None:
            content: bytes | None = picture(wanted)
        else:
            content = fields["file"] if "file" in fields else stub.pictures.get(fields["id"])
        if content is None:
            return error(404, f"there is no picture {fields['id']!r} in the index")
        query = mean_colour(content)
        scores = {name: float(query @ mean_colour(each)) for name, each in stub.pictures.items()}
        scores.pop(fields.get("id"), None)  # a picture is no neighbour of its own
        best = sorted(scores, key=lambda name: -scores[name])[: int(fields["k"])]
        return JSONResponse({"model": "colours", "hits": [hit(name, scores[name]) for name in best]})

    async def attention(request: Request) -> Response:
        return JSONResponse({"rows": 4, "columns": 4, "weights": stub.weights})

    async def thumbnail(request: Request) -> Response:
        return Response(stub.pictures[request.path_params["id"]], media_type="image/jpeg")

    async def index_page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    def checked(answer: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            path = "/" + request.url.path.split("/")[1]
            request.state.fields = await fields_of(request)
            stub.asked.append((path, request.state.fields))
            if stub.token and request.headers.get("authorization") != f"Bearer {stub.token}":
                return error(401, "give the server's token")
            if path in stub.refusals:
                status, message, headers = stub.refusals[path]
                return error(status, message, headers)
            seconds = stub.slow.pop(path, 0.0)
            response: Response = await answer(request)
            await asyncio.sleep(seconds)
            return response

        return endpoint

    return Starlette(
        routes=[
            Route("/", index_page),
            Mount("/page", StaticFiles(directory=PAGE)),
            Route("/models", checked(models)),
            Route("/search", checked(search), methods=["POST"]),
            Route("/compose", checked(search), methods=["POST"]),
            Route("/attention", checked(attention), methods=["POST"]),
            Route("/thumbnails/{id:path}", checked(thumbnail)),
        ]
    )


async def fields_of(request: Request) -> dict[str, Any]:
    """The fields of a JSON or multipart body; files as bytes."""
    if request.headers.get("content-type", "").startswith("application/json"):
        content: dict[str, Any] = await request.json()
        return content
    form = await request.form()
    return {name: value if isinstance(value, str) else await value.read() for name, value in form.items()}


def error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error in the API's shape."""
    param = "file" if message.startswith(("the file", "it ")) else None
    param = "instruction" if message.startswith("the instruction") else param
    content = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return JSONResponse({"error": content}, status_code=status, headers=headers)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serves an ASGI application from a thread and gives its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # from here on a client waits until the server has started
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=30)
