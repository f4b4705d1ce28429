"""Pictures are fetched from addresses on the list alone, and never more of them than there is room for."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saga_ray.config.serving import ServeSettings
from saga_ray.serve.admission import Budget
from saga_ray.serve.app import create_app
from saga_ray.serve.errors import ApiError
from saga_ray.serve.held import Held
from saga_ray.serve.inputs import Fetcher
from tests.serve.cases import app_of, client_of, embedding_of, png, post, problem
from tests.serve.test_gate import Slow

PADDED = png(1) + bytes(300_000)
PREFIX = "https://pictures.example/products/"


class Pictures(BaseHTTPRequestHandler):
    """A server of pictures, and of things that are none of anybody's business."""

    asked = 0

    def do_GET(self) -> None:
        Pictures.asked += 1
        if self.path == "/products/1.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png(1))
        elif self.path == "/products/large.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PADDED)
        elif self.path == "/products/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/secret")
            self.end_headers()
        else:
            self.send_response(404)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def test_a_picture_on_the_list_is_fetched(server: str, model: Path) -> None:
    app = app_of(model, url_prefixes=[f"{server}/products/"])
    answer = post(app, "/v1/embeddings", json={"input": f"{server}/products/1.png"})
    found = answer.json()["data"][0]["embedding"]
    np.testing.assert_allclose([found], embedding_of(model, png(1)), atol=1e-6)


@pytest.mark.parametrize(
    "path, words",
    [
        ("/products/2.png", "its server answered 404"),
        ("/products/elsewhere", "its server answered 302"),
        ("/products/large.png", "the body with the pictures fetched for it is larger than 0.2 MiB"),
        ("/secret", "not fetched from this address"),
        ("/products/../secret", "not fetched from this address"),
    ],
)
def test_what_cannot_be_fetched_is_said(server: str, model: Path, path: str, words: str) -> None:
    app = app_of(model, url_prefixes=[f"{server}/products/"], request_mib=0.2)
    answer = post(app, "/v1/embeddings", json={"input": [f"{server}{path}"]})
    assert answer.status_code in (400, 413) and words in answer.json()["error"]["message"]


def test_pictures_of_a_request_are_limited_together_with_its_body(server: str, model: Path) -> None:
    app = app_of(model, url_prefixes=[f"{server}/products/"], request_mib=0.5, waiting_mib=0.5)
    large = f"{server}/products/large.png"
    error = problem(post(app, "/v1/embeddings", json={"input": [large] * 2}), 413)
    assert "larger than 0.5 MiB" in error["message"] and error["code"] == "too_large"
    problem(post(app, "/v1/embeddings", json={"input": large, "user": "u" * 300_000}), 413)
    for _ in range(3):  # what was refused holds nothing
        assert post(app, "/v1/embeddings", json={"input": large}).status_code == 200


@pytest.mark.parametrize(
    ("limit", "fetched"),
    [({"waiting_mib": 0.5, "request_mib": 0.5}, 2), ({"waiting_pictures": 1, "request_pictures": 1}, 1)],
)
def test_there_is_room_for_what_is_fetched_or_429(server: str, limit: dict[str, Any], fetched: int) -> None:
    async def run() -> None:
        backend = Slow()
        app = create_app(ServeSettings(url_prefixes=[f"{server}/products/"], **limit), backend)
        before, body = Pictures.asked, {"input": f"{server}/products/large.png"}
        async with client_of(app) as client:
            first = asyncio.create_task(client.post("/v1/embeddings", json=body))
            while not backend.calls:
                await asyncio.sleep(0.01)
            refused = await client.post("/v1/embeddings", json=body)
            assert problem(refused, 429)["code"] == "overloaded" and refused.headers["retry-after"] == "1"
            assert Pictures.asked - before == fetched
            backend.go.set()
            assert (await first).status_code == 200
            assert (await client.post("/v1/embeddings", json=body)).status_code == 200

    asyncio.run(run())


def test_chunked_bodies_leave_room_for_what_is_fetched(server: str, model: Path) -> None:
    app = app_of(model, url_prefixes=[f"{server}/products/"], request_mib=0.5, waiting_mib=0.5)

    async def body() -> AsyncIterator[bytes]:
        yield json.dumps({"input": f"{server}/products/large.png"}).encode()

    headers = {"Content-Type": "application/json"}
    assert post(app, "/v1/embeddings", content=body(), headers=headers).status_code == 200


@pytest.mark.parametrize(
    "address",
    [
        "https://pictures.example.evil.example/products/1.png",
        "https://pictures.example@evil.example/products/1.png",
        "https://evil.example/https://pictures.example/products/1.png",
        "http://pictures.example/products/1.png",
        "https://pictures.example/products/%2e%2e/secret",
        "https://pictures.example/products/..%2fsecret",
        "https://pictures.example/products/..\\secret",
        "https://pictures.example:8443/products/1.png",
        "https://user:word@pictures.example/products/1.png",
        "https://[::1/products/1.png",
        "HTTPS://169.254.169.254/latest/meta-data",
    ],
)
def test_no_address_beside_the_list_is_asked(address: str) -> None:
    with Budget(1).take() as share, pytest.raises(ApiError) as refused:
        asyncio.run(Fetcher([PREFIX])(address, Held(share, 1.0)))
    assert refused.value.code == "url_not_allowed"
