"""Each endpoint answers what the encoder and the index say, in the conventions that clients know."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saga_ray.retrieval.index import Index, encoder_hash
from tests.serve.cases import (
    ROWS,
    WIDTH,
    app_of,
    base64_of,
    data_url,
    embedding_of,
    encoded,
    get,
    picture,
    png,
    post,
    problem,
)
from tests.tiny import PIXELS, TOKENS

FILES = [png(seed) for seed in range(5)]


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(np.array(a), np.array(b), atol=2e-6)


def test_embeddings_are_the_encoders_in_the_order_of_the_input(app: Any, model: Path) -> None:
    items: list[Any] = [data_url(FILES[0]), {"image": base64_of(FILES[1])}, {"image": data_url(FILES[2])}]
    answer = post(app, "/v1/embeddings", json={"input": items, "model": "tiny"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["object"] == "list" and body["model"] == "tiny"
    assert [each["index"] for each in body["data"]] == [0, 1, 2]
    close([each["embedding"] for each in body["data"]], embedding_of(model, *FILES[:3]))
    assert body["usage"] == {"prompt_tokens": 3 * TOKENS, "total_tokens": 3 * TOKENS}


@pytest.mark.parametrize("item", [data_url(FILES[0]), {"image": base64_of(FILES[0])}])
def test_one_picture_needs_no_list_and_the_model_no_name(app: Any, model: Path, item: Any) -> None:
    answer = post(app, "/v1/embeddings", json={"input": item})
    close([each["embedding"] for each in answer.json()["data"]], embedding_of(model, FILES[0]))


def test_base64_holds_the_same_numbers(app: Any, model: Path) -> None:
    body = {"input": [data_url(FILES[0])], "encoding_format": "base64"}
    [row] = post(app, "/v1/embeddings", json=body).json()["data"]
    numbers = np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4")
    close([numbers], embedding_of(model, FILES[0]))


def test_fewer_dimensions_are_the_first_ones_normalised_again(app: Any, model: Path) -> None:
    body = {"input": [data_url(FILES[0])], "dimensions": 3}
    [row] = post(app, "/v1/embeddings", json=body).json()["data"]
    first_three = embedding_of(model, FILES[0])[0, :3]
    close(row["embedding"], first_three / np.linalg.norm(first_three))
    wrong = post(app, "/v1/embeddings", json={**body, "dimensions": WIDTH + 1})
    assert problem(wrong, 400)["param"] == "dimensions"


def test_another_models_name_is_not_found(app: Any) -> None:
    wrong = post(app, "/v1/embeddings", json={"input": data_url(FILES[0]), "model": "text-embedding-3"})
    assert problem(wrong, 404)["code"] == "model_not_found"


def test_files_are_embedded_in_their_order(app: Any, model: Path) -> None:
    files = [("files", (f"{place}.png", file)) for place, file in enumerate(FILES)]
    body = post(app, "/embed", files=files).json()
    assert body["model"] == "tiny" and [each["index"] for each in body["data"]] == list(range(5))
    close([each["embedding"] for each in body["data"]], embedding_of(model, *FILES))


def test_a_search_finds_what_the_index_finds(app: Any, model: Path, index: Path) -> None:
    [expected] = Index.open(index).search(embedding_of(model, FILES[3]), 4)
    body = post(app, "/search", files={"file": FILES[3]}, data={"k": "4"}).json()
    assert [hit["id"] for hit in body["hits"]] == [hit.id for hit in expected]
    close([hit["score"] for hit in body["hits"]], [hit.score for hit in expected])
    first = body["hits"][0]
    assert first["id"] == "p/3" and first["label"] == "chair" and first["metadata"]["price"] in ("30", 30)
    assert first["score"] == pytest.approx(1, abs=1e-5)
    assert first["thumbnail"] == "/thumbnails/p%2F3"


def test_a_search_by_json_or_by_form_is_the_same(app: Any) -> None:
    by_form = post(app, "/search", files={"file": FILES[3]}).json()
    assert len(by_form["hits"]) == 10
    for image in (base64_of(FILES[3]), data_url(FILES[3])):
        assert post(app, "/search", json={"image": image}).json() == by_form


def test_a_row_of_the_index_is_searched_by_its_id_and_is_not_its_own_neighbour(app: Any) -> None:
    by_picture = post(app, "/search", json={"image": base64_of(FILES[3]), "k": ROWS}).json()["hits"]
    by_id = post(app, "/search", json={"id": "p/3", "k": ROWS}).json()["hits"]
    assert [hit["id"] for hit in by_id] == [hit["id"] for hit in by_picture if hit["id"] != "p/3"]
    assert problem(post(app, "/search", json={"id": "p/99"}), 404)["param"] == "id"


def test_a_small_picture_of_every_hit_can_be_had(app: Any) -> None:
    [hit] = post(app, "/search", json={"image": base64_of(FILES[3]), "k": 1}).json()["hits"]
    answer = get(app, hit["thumbnail"])
    assert answer.headers["content-type"] == "image/jpeg" and answer.content[:3] == b"\xff\xd8\xff"
    problem(get(app, "/thumbnails/nothing"), 404)


def test_attention_is_the_poolers(app: Any, model: Path) -> None:
    body = post(app, "/attention", files={"file": FILES[0]}).json()
    assert (body["rows"], body["columns"], len(body["weights"])) == (2, 2, TOKENS)
    assert sum(body["weights"]) == pytest.approx(1, abs=1e-5) and len(set(body["weights"])) > 1


def test_attention_starts_at_the_top_left(app: Any) -> None:
    halves = Image.new("RGB", (PIXELS, PIXELS), "black")
    halves.paste("white", (0, 0, PIXELS // 2, PIXELS // 2))
    top_left, *others = post(app, "/attention", files={"file": encoded(halves)}).json()["weights"]
    assert len({round(weight, 6) for weight in others}) == 1 and abs(top_left - others[0]) > 1e-4


def test_composing_needs_a_model_that_takes_text(app: Any) -> None:
    answer = post(app, "/compose", files={"file": FILES[0]}, data={"instruction": "in red"})
    error = problem(answer, 404)
    assert "`saga cir train`" in error["message"] and error["code"] == "no_text"


def test_models_say_what_is_served(app: Any, model: Path) -> None:
    [shown] = get(app, "/models").json()["data"]
    assert shown == {
        "id": "tiny",
        "image_size": PIXELS,
        "embedding_size": WIDTH,
        "hash": encoder_hash(model),
        "accepts": ["image"],
        "attention": True,
        "index": {"size": ROWS, "kind": "flat"},
    }
    [known] = get(app, "/v1/models").json()["data"]
    assert known == get(app, "/v1/models/tiny").json() and known["id"] == "tiny"


def test_without_an_index_there_is_no_search(model: Path) -> None:
    app = app_of(model)
    assert get(app, "/models").json()["data"][0]["index"] is None
    for answer in (
        post(app, "/search", files={"file": FILES[0]}),
        post(app, "/search", json={"id": "p/3"}),
        get(app, "/thumbnails/p/3"),
    ):
        assert problem(answer, 404)["code"] == "no_index"


def test_health_page_and_documents_answer(app: Any) -> None:
    assert get(app, "/healthz").json() == {"status": "ok"}
    assert get(app, "/readyz").json() == {"status": "ready"}
    page, docs = get(app, "/"), get(app, "/docs")
    assert "<html" in page.text and "default-src 'self'" in page.headers["content-security-policy"]
    assert "/v1/embeddings" in docs.text and "http://" not in docs.text and "https://" not in docs.text
    assert get(app, "/page/page.css").status_code == 200


@pytest.mark.parametrize("path", ["/nowhere", "/page/nowhere.js", "/page/../app.py", "/v1/models/other"])
def test_what_is_not_there_is_said_in_the_same_shape(app: Any, path: str) -> None:
    problem(get(app, path), 404)


def test_a_wrong_method_is_said_in_the_same_shape(app: Any) -> None:
    problem(get(app, "/v1/embeddings"), 405)


def test_pictures_larger_than_the_models_are_cut_to_their_centre(app: Any, model: Path) -> None:
    large = encoded(picture(1, (300, 200)), "JPEG", quality=90)
    [row] = post(app, "/embed", files={"files": large}).json()["data"]
    close([row["embedding"]], embedding_of(model, large))
