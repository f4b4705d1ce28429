"""Token, size, room and time: who does not pass is told so at once, and what is beside it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from saga_ray.config.serving import ServeSettings
from saga_ray.retrieval.index import Hit
from saga_ray.serve.app import create_app
from saga_ray.serve.backend import Card, Embedded, Full, Item, Numbers, WrongSize
from tests.serve.cases import app_of, asked, base64_of, data_url, get, png, post, problem
from tests.tiny import PIXELS

GOOD = png()
BODY = {"input": data_url(GOOD)}


class Slow:
    """A backend that answers when it is told to."""

    def __init__(self, image_size: int = PIXELS) -> None:
        self.go, self.image_size, self.calls = asyncio.Event(), image_size, 0
        self.error: Exception | None = None

    async def card(self) -> Card:
        return Card("slow", "0" * 64, ("image",), PIXELS, 2, False, None)

    async def embed(self, items: Sequence[Item]) -> Embedded:
        self.calls += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        if any(item.image_HWC is None or len(item.image_HWC) != self.image_size for item in items):
            raise WrongSize(self.image_size)
        return Embedded(np.full((len(items), 2), 0.5, dtype=np.float32), tokens=4)

    async def attention(self, items: Sequence[Item]) -> Numbers:
        raise NotImplementedError

    async def search(self, items: Sequence[Item], k: int) -> list[list[Hit]]:
        raise NotImplementedError

    async def neighbours(self, id: str, k: int) -> list[Hit] | None:
        raise NotImplementedError

    async def thumbnail(self, id: str) -> bytes | None:
        raise NotImplementedError


def test_a_token_is_asked_for_where_pictures_are_seen(model: Path, index: Path) -> None:
    app = app_of(model, index, token="let me in")
    wanted: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/embeddings", {"json": BODY}),
        ("POST", "/embed", {"files": {"files": GOOD}}),
        ("POST", "/search", {"json": {"id": "p/1"}}),
        ("POST", "/attention", {"files": {"file": GOOD}}),
        ("GET", "/thumbnails/p%2F1", {}),
        ("GET", "/models", {}),
        ("GET", "/v1/models", {}),
        ("GET", "/metrics", {}),
    ]

    async def all_of_them(client: httpx.AsyncClient) -> list[int]:
        return [(await client.request(method, path, **rest)).status_code for method, path, rest in wanted]

    wrong = [
        "",
        "let me in",
        "Bearer",
        "Bearer let me",
        "Bearer let me in!",
        "Basic let me in",
        "Bearer \u00e4",
    ]
    for header in (None, *wrong):
        headers = {} if header is None else {"Authorization": header.encode()}
        assert set(asked(app, all_of_them, headers=headers)) == {401}, header
    assert set(asked(app, all_of_them, headers={"Authorization": "Bearer let me in"})) == {200}
    refused = post(app, "/v1/embeddings", json=BODY)
    assert problem(refused, 401)["type"] == "authentication_error"
    assert refused.headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/page/page.css"):
        assert get(app, path).status_code == 200, path
    assert get(app, "/openapi.json").json()["paths"]["/search"]["post"]["security"] == [{"token": []}]


def test_a_path_cannot_slip_past_the_token(model: Path) -> None:
    app = app_of(model, token="let me in")
    for path in (
        "/page/../models",
        "/page/..%2fmodels",
        "http://test//models",
        "/models/",
        "/page//../metrics",
        "/%6dodels",
    ):
        assert get(app, path).status_code in (401, 404), path


def test_a_body_that_is_too_large_is_refused_by_what_it_declares(model: Path) -> None:
    app = app_of(model, request_mib=0.01)
    error = problem(post(app, "/v1/embeddings", content=bytes(20_000)), 413)
    assert "larger than 0.01 MiB" in error["message"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embed", "/search"])
def test_a_body_of_unknown_size_ends_where_it_is_too_large(model: Path, index: Path, path: str) -> None:
    app = app_of(model, index, request_mib=0.1)

    async def long() -> AsyncIterator[bytes]:
        yield b"--y\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n"
        for _ in range(20):
            yield bytes(10_000)

    kind = "application/json" if path.startswith("/v1") else "multipart/form-data; boundary=y"
    problem(post(app, path, content=long(), headers={"Content-Type": kind}), 413)


def test_a_client_that_sends_too_slowly_is_given_up(model: Path) -> None:
    app = app_of(model, receive_s=0.1)

    async def ask() -> tuple[int, bytes]:
        sent: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(5)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/embeddings",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"9")],
        }
        await app(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    status, body = asyncio.run(asyncio.wait_for(ask(), 3))
    assert status == 408 and b"did not arrive" in body


def test_a_request_that_takes_too_long_ends_and_the_next_is_served() -> None:
    async def run() -> None:
        backend = Slow()
        app = create_app(ServeSettings(request_s=0.2, waiting_requests=1), backend)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert problem(await client.post("/v1/embeddings", json=BODY), 504)["code"] == "timeout"
            backend.go.set()
            assert (await client.post("/v1/embeddings", json=BODY)).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    "limit, files",
    [
        ({"waiting_requests": 2}, 1),
        ({"waiting_pictures": 4, "request_pictures": 2}, 2),
        ({"waiting_mib": 0.0021, "request_mib": 0.0015}, 1),
    ],
)
def test_what_is_beyond_the_room_gets_429_at_once_and_health_still_answers(
    limit: dict[str, Any], files: int
) -> None:
    async def run() -> None:
        backend = Slow()
        app = create_app(ServeSettings(**limit, retry_after_s=7), backend)
        padded = GOOD + bytes(700)
        request = {"files": [("files", padded)] * files}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            waiting = [asyncio.create_task(client.post("/embed", **request)) for _ in range(2)]
            while backend.calls < 2:
                await asyncio.sleep(0.01)
            refused = await client.post("/embed", **request)
            assert problem(refused, 429)["type"] == "rate_limit_error"
            assert refused.headers["retry-after"] == "7"
            for path in ("/healthz", "/readyz", "/metrics"):
                assert (await client.get(path)).status_code == 200
            backend.go.set()
            assert [(await each).status_code for each in waiting] == [200, 200]
            assert (await client.post("/embed", **request)).status_code == 200

    asyncio.run(run())


def test_a_full_model_is_429_and_a_failing_one_500_without_its_secrets() -> None:
    async def run() -> None:
        backend = Slow()
        backend.go.set()
        app = create_app(ServeSettings(), backend)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            backend.error = Full()
            assert (await client.post("/v1/embeddings", json=BODY)).headers["retry-after"] == "1"
            backend.error = RuntimeError("CUDA out of memory at 0xdeadbeef")
            failed = await client.post("/v1/embeddings", json=BODY)
            assert "CUDA" not in problem(failed, 500)["message"]

    asyncio.run(run())


def test_pictures_are_decoded_again_for_a_model_of_another_size() -> None:
    async def run() -> None:
        backend = Slow(image_size=2 * PIXELS)
        backend.go.set()
        app = create_app(ServeSettings(), backend)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.post("/v1/embeddings", json=BODY)).status_code == 200
            assert backend.calls == 2

    asyncio.run(run())


def test_metrics_count_what_was_asked(model: Path, index: Path) -> None:
    app = app_of(model, index)
    for _ in range(3):
        post(app, "/embed", files=[("files", GOOD), ("files", GOOD)])
    post(app, "/search", json={"image": base64_of(b"no picture")})
    get(app, "/a/path/that/is/not/there")
    answer = get(app, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    counts = {tuple(sample.labels.values()): sample.value for sample in families["saga_requests"].samples}
    assert counts == {("/embed", "200"): 3, ("/search", "400"): 1, ("other", "404"): 1}
    [pictures] = families["saga_pictures"].samples
    assert (pictures.labels, pictures.value) == ({"endpoint": "/embed"}, 6)
    assert families["saga_refused_pictures"].samples[0].value == 1
    times = [each for each in families["saga_request_seconds"].samples if each.labels["endpoint"] == "/embed"]
    assert [sample.value for sample in times if sample.name.endswith("_count")] == [3]
    buckets = [sample.value for sample in times if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets) and buckets[-1] == 3
    batches = [sample for sample in families["saga_batch_items"].samples if sample.name.endswith("_sum")]
    assert batches[0].value == 6
