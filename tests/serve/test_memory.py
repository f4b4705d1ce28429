"""Ten thousand requests, good and bad, leave the server's memory as it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from tests.serve.cases import app_of, base64_of, client_of, data_url, encoded, picture, png
from tests.serve.test_bad_input import BAD, claiming

REQUESTS = 10_000
GROWTH_MB = 30


@pytest.mark.slow
def test_memory_does_not_grow_over_ten_thousand_requests(model: Path, index: Path) -> None:
    app = app_of(model, index)
    good = encoded(picture(0, (400, 300)), "JPEG")
    half = claiming(2_000, 2_000, bytes(2_001 * 10))
    # all but the one that takes long on purpose
    bad = [data for name, (data, _, _) in BAD.items() if name != "comment bomb"]
    kinds = [
        lambda turn: ("/embed", {"files": {"files": good}}),
        lambda turn: ("/v1/embeddings", {"json": {"input": [data_url(png(turn % 50))] * 3}}),
        lambda turn: ("/search", {"json": {"image": base64_of(good), "k": 5}}),
        lambda turn: ("/attention", {"files": {"file": good}}),
        lambda turn: ("/embed", {"files": {"files": bad[turn % len(bad)]}}),
        lambda turn: ("/v1/embeddings", {"json": {"input": data_url(bad[turn % len(bad)])}}),
        lambda turn: ("/embed", {"files": {"files": half}}),
        lambda turn: ("/v1/embeddings", {"content": b"[" * 10_000}),
        lambda turn: (f"/nowhere/{turn}", {}),
        lambda turn: ("/search", {"json": {"id": f"row {turn}"}}),
    ]
    process = psutil.Process()
    after: list[float] = []

    async def run() -> None:
        async with client_of(app) as client:
            for start in range(0, REQUESTS, 1_000):
                for turn in range(start, start + 1_000):
                    path, request = kinds[turn % len(kinds)](turn)
                    answer = await client.post(path, **request)
                    assert answer.status_code < 500, answer.text
                after.append(process.memory_info().rss / 1e6)

    asyncio.run(run())
    # the first thousand load what is loaded on demand
    assert after[-1] - after[0] < GROWTH_MB, after
