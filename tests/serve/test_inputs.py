"""Pictures are fetched from addresses on the list alone, and never more than they may be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from saga_ray.serve.errors import ApiError
from saga_ray.serve.inputs import Fetcher
from tests.serve.cases import app_of, embedding_of, png, post

PREFIX = "https://pictures.example/products/"


class Pictures(BaseHTTPRequestHandler):
    """A server of pictures, and of things that are none of anybody's business."""

    def do_GET(self) -> None:
        if self.path == "/products/1.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png(1))
        elif self.path == "/products/large.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bytes(300_000))
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
        ("/products/large.png", "too large"),
        ("/secret", "not fetched from this address"),
        ("/products/../secret", "not fetched from this address"),
    ],
)
def test_what_cannot_be_fetched_is_said(server: str, model: Path, path: str, words: str) -> None:
    app = app_of(model, url_prefixes=[f"{server}/products/"], request_mib=0.2)
    answer = post(app, "/v1/embeddings", json={"input": [f"{server}{path}"]})
    assert answer.status_code in (400, 413) and words in answer.json()["error"]["message"]


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
    with pytest.raises(ApiError) as refused:
        asyncio.run(Fetcher([PREFIX], 1000)(address))
    assert refused.value.code == "url_not_allowed"
