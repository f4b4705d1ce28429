"""The service on a real Ray Serve: the stock OpenAI client, a rolling update, a full house."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import psutil
import pytest
import torch
from ray import serve

from saga_ray.composed.embedder import Embedder
from saga_ray.retrieval.index import encoder_hash
from saga_ray.serve.deployment import build
from saga_ray.train.ports import free_port
from tests.serve.cases import (
    base64_of,
    build_index,
    data_url,
    embedding_of,
    encoded,
    picture,
    png,
    problem,
    save_encoder,
)

FILES = [png(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def url(session_ray: None) -> Iterator[str]:
    """Where a Ray Serve of this module listens."""
    serve.start(http_options={"host": "127.0.0.1", "port": (port := free_port())})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def deploy(model: Path, **settings: Any) -> None:
    arguments = {"model": str(model), "name": "tiny", "cpus_per_api": 0.2, "cpus_per_model": 0.2, **settings}
    serve.run(build(arguments), name="saga", route_prefix="/")


def test_the_stock_openai_client_works_unchanged(url: str, model: Path, index: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a secret token\n")
    deploy(model, index=str(index), token_file=str(tmp_path / "token"))
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="a secret token", max_retries=0)
    answer = client.embeddings.create(model="tiny", input=[data_url(file) for file in FILES])
    np.testing.assert_allclose(
        [each.embedding for each in answer.data], embedding_of(model, *FILES), atol=1e-6
    )
    assert [each.index for each in answer.data] == [0, 1, 2, 3] and answer.usage.total_tokens == 16
    as_numbers = client.embeddings.create(model="tiny", input=data_url(FILES[0]), encoding_format="float")
    np.testing.assert_allclose(as_numbers.data[0].embedding, answer.data[0].embedding, atol=1e-6)
    assert [each.id for each in client.models.list()] == ["tiny"]
    with pytest.raises(openai.BadRequestError, match="takes pictures and no text"):
        client.embeddings.create(model="tiny", input="a red chair")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="other", input=data_url(FILES[0]))
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").embeddings.create(model="tiny", input=data_url(FILES[0]))

    # what is not OpenAI's, over the same replicas
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer a secret token"}) as other:
        hits = other.post("/search", files={"file": FILES[2]}, data={"k": 1}).json()["hits"]
        assert hits[0]["id"] == "p/2" and other.get(hits[0]["thumbnail"]).status_code == 200
        assert len(other.post("/attention", files={"file": FILES[0]}).json()["weights"]) == 4
        problem(other.post("/embed", files={"files": b"no picture"}), 400)
        assert other.get("/").status_code == 200
        numbers = other.get("/metrics").text
        assert 'saga_requests_total{endpoint="/v1/embeddings",status="200"} 2' in numbers


def test_the_proxy_listens_on_this_machine_alone(url: str) -> None:
    folder = str(Path(os.environ["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"]).parent)
    proxies = [
        each for each in psutil.process_iter(["cmdline"]) if folder in " ".join(each.info["cmdline"] or [])
    ]
    heard = {
        address.laddr.ip
        for each in proxies
        for address in each.net_connections()
        if address.status == psutil.CONN_LISTEN
    }
    assert heard == {"127.0.0.1"}


@pytest.mark.slow
def test_texts_and_instructions_reach_model_replicas_of_their_own(
    url: str, embedder: Path, composed_index: Path
) -> None:
    deploy(embedder, index=str(composed_index), apart=True)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    answer = client.embeddings.create(model="tiny", input=["a red chair", data_url(FILES[0])])
    own = Embedder.load(embedder)
    with torch.no_grad():
        expected = own.texts(["a red chair"])[0].numpy()
    np.testing.assert_allclose(answer.data[0].embedding, expected, atol=1e-5)
    with pytest.raises(openai.BadRequestError, match="the model reads 256 at most: shorten it"):
        client.embeddings.create(model="tiny", input="and in red " * 200)
    with httpx.Client(base_url=url) as other:
        form = {"files": {"file": FILES[1]}, "data": {"instruction": "in red", "k": 3}}
        by_form = other.post("/compose", **form).json()["hits"]
        body = {"image": base64_of(FILES[1]), "instruction": "in red", "k": 3}
        assert other.post("/compose", json=body).json()["hits"] == by_form and len(by_form) == 3
        problem(other.post("/compose", json={**body, "instruction": "and in red " * 200}), 400)
        problem(other.post("/attention", files={"file": FILES[0]}), 404)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True])
def test_metrics_are_sums_over_the_replicas_whichever_is_asked(apart: bool, url: str, model: Path) -> None:
    replicas = "api" if apart else "model"
    deploy(model, apart=apart, **{f"{replicas}_replicas": 2, f"most_{replicas}_replicas": 2})

    def count() -> float:
        numbers = httpx.get(f"{url}/metrics").text
        name = 'saga_requests_total{endpoint="/embed",status="200"} '
        return float(numbers.partition(name)[2].partition("\n")[0] or 0)

    for _ in range(20):
        assert httpx.post(f"{url}/embed", files={"files": FILES[0]}).status_code == 200
    until = time.monotonic() + 30
    while count() < 20 and time.monotonic() < until:
        time.sleep(0.5)
    assert [count() for _ in range(6)] == [20.0] * 6


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True])
def test_an_update_to_a_new_model_fails_no_request(
    apart: bool, url: str, model: Path, index: Path, tmp_path: Path
) -> None:
    newer = save_encoder(tmp_path / "newer", seed=5)
    deploy(model, index=str(index), apart=apart)
    old, new = embedding_of(model, FILES[0])[0], embedding_of(newer, FILES[0])[0]
    assert np.abs(old - new).max() > 0.1
    seen: list[str] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not done.is_set():
                if len(seen) % 4 == 3:
                    answer = client.post("/search", files={"file": FILES[0]}, data={"k": 1})
                    # each version has its own index: the picture itself is found by whichever answers
                    good = answer.status_code == 200 and answer.json()["hits"][0]["score"] > 0.999
                    seen.append("search" if good else answer.text)
                    continue
                answer = client.post("/embed", files={"files": FILES[0]})
                if answer.status_code != 200:
                    seen.append(answer.text)
                    continue
                found = np.array(answer.json()["data"][0]["embedding"])
                distances = {"old": np.abs(found - old).max(), "new": np.abs(found - new).max()}
                seen.append(min(distances, key=lambda version: distances[version]))
                assert min(distances.values()) < 1e-5

    with ThreadPoolExecutor(3) as threads:
        askers = [threads.submit(ask) for _ in range(3)]
        try:
            time.sleep(1)
            deploy(newer, index=str(build_index(newer, tmp_path / "newer-index")), apart=apart)
            until = time.monotonic() + 60
            while seen[-1] != "new" and time.monotonic() < until:
                time.sleep(0.1)
            time.sleep(1)
        finally:
            done.set()
        for asker in askers:
            asker.result()
    counts = Counter(seen)
    assert set(counts) == {"old", "new", "search"}, counts
    shown = httpx.get(f"{url}/models").json()["data"][0]
    assert shown["hash"] == encoder_hash(newer) and shown["id"] == "tiny"


def test_a_full_house_answers_429_with_retry_after(url: str, model: Path) -> None:
    deploy(model, waiting_requests=2, retry_after_s=3, apart=True)
    large = encoded(picture(0, (3000, 3000)), compress_level=1)
    health: list[int] = []

    def ask(_: int) -> httpx.Response:
        with httpx.Client(base_url=url, timeout=60) as client:
            health.append(client.get("/healthz").status_code)
            return client.post("/embed", files=[("files", large)] * 4)

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(ask, range(24)))
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) == {200, 429}, statuses
    for answer in answers:
        if answer.status_code == 429:
            assert answer.headers["retry-after"] == "3"
            problem(answer, 429)
    assert set(health) == {200}
    assert httpx.post(f"{url}/embed", files={"files": FILES[0]}).status_code == 200
