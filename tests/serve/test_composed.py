"""An embedder of composed retrieval behind the same endpoints: pictures, texts, and both together."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from saga_ray.cli import main
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.identity import embedder_hash
from saga_ray.config.serving import ServeSettings
from saga_ray.data.decoding import centre_square, decode
from saga_ray.errors import UserError
from saga_ray.prompts import composed as prompts
from saga_ray.retrieval.index import Index
from saga_ray.serve import models
from saga_ray.serve.engine import Engine
from saga_ray.serve.source import pin
from tests.serve.cases import (
    ROWS,
    app_of,
    asked,
    base64_of,
    data_url,
    get,
    png,
    post,
    problem,
)

FILES = [png(seed) for seed in range(4)]
TEXTS = ["a red chair", "a tall table of dark wood, for the garden", "lamp"]
TO_RED = "the same, but in red"
LONG = "and in red " * 200
Embeddings = NDArray[np.float32]


@cache
def loaded(folder: Path) -> Embedder:
    return Embedder.load(folder)


def pixels(folder: Path, files: Sequence[bytes]) -> torch.Tensor:
    size = loaded(folder).image_size
    return torch.from_numpy(np.stack([centre_square(decode(file, size), size) for file in files]))


def of_pictures(folder: Path, *files: bytes) -> Embeddings:
    """What the embedder itself makes of files."""
    with torch.no_grad():
        z_BE: Embeddings = loaded(folder)(pixels(folder, files)).numpy()
    return z_BE


def of_texts(folder: Path, *texts: str) -> Embeddings:
    with torch.no_grad():
        return loaded(folder).texts(texts).numpy()


def of_queries(folder: Path, files: Sequence[bytes], instructions: Sequence[str]) -> Embeddings:
    model = loaded(folder)
    with torch.no_grad():
        return model.composed(model.tokens(pixels(folder, files)), instructions).numpy()


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(np.array(a), np.array(b), atol=1e-5)


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def found(index: Path, z_QE: Embeddings, k: int = 10) -> list[str]:
    [hits] = Index.open(index).search(z_QE, k)
    return [hit.id for hit in hits]


def test_pictures_and_texts_are_embedded_in_their_places(composing: Any, embedder: Path) -> None:
    items: list[Any] = [TEXTS[0], data_url(FILES[0]), TEXTS[1], {"image": base64_of(FILES[1])}]
    answer = post(composing, "/v1/embeddings", json={"input": items})
    assert answer.status_code == 200, answer.text
    first, picture_0, second, picture_1 = (row["embedding"] for row in answer.json()["data"])
    close([picture_0, picture_1], of_pictures(embedder, *FILES[:2]))
    close([first, second], of_texts(embedder, *TEXTS[:2]))
    model = loaded(embedder)
    tokens = 2 * model.length(prompts.image(), image=True)
    tokens += sum(model.length(prompts.text(text), image=False) for text in TEXTS[:2])
    assert answer.json()["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    one = post(composing, "/v1/embeddings", json={"input": TEXTS[0]}).json()["data"]
    close([row["embedding"] for row in one], of_texts(embedder, TEXTS[0]))


def test_fewer_dimensions_are_the_shorter_embeddings_of_the_embedder(composing: Any, embedder: Path) -> None:
    [row] = post(composing, "/v1/embeddings", json={"input": TEXTS[0], "dimensions": 16}).json()["data"]
    shorter = Embedder.load(embedder)
    shorter.size = 16
    with torch.no_grad():
        close([row["embedding"]], shorter.texts(TEXTS[:1]).numpy())


def test_files_and_texts_of_a_form_are_embedded(composing: Any, embedder: Path) -> None:
    files = [("files", (f"{place}.png", file)) for place, file in enumerate(FILES)]
    body = post(composing, "/embed", files=files, data={"texts": TEXTS}).json()
    assert [row["index"] for row in body["data"]] == list(range(7))
    expected = np.concatenate([of_pictures(embedder, *FILES), of_texts(embedder, *TEXTS)])
    close([row["embedding"] for row in body["data"]], expected)
    alone = post(composing, "/embed", data={"texts": TEXTS[0]}).json()["data"]
    close([row["embedding"] for row in alone], of_texts(embedder, TEXTS[0]))


def test_a_search_by_picture_text_or_row_finds_what_the_index_finds(
    composing: Any, embedder: Path, composed_index: Path
) -> None:
    by_picture = found(composed_index, of_pictures(embedder, FILES[3]), ROWS)
    assert ids(post(composing, "/search", files={"file": FILES[3]}, data={"k": ROWS})) == by_picture
    assert by_picture[0] == "p/3"
    assert ids(post(composing, "/search", json={"id": "p/3", "k": ROWS})) == by_picture[1:]
    by_text = found(composed_index, of_texts(embedder, TEXTS[0]))
    assert ids(post(composing, "/search", json={"text": TEXTS[0]})) == by_text
    assert ids(post(composing, "/search", files={"text": (None, TEXTS[0])})) == by_text


def test_an_instruction_beside_a_picture_is_the_embedders_composed_query(
    composing: Any, embedder: Path, composed_index: Path
) -> None:
    z_1E = of_queries(embedder, FILES[3:], [TO_RED])
    [expected] = Index.open(composed_index).search(z_1E, 5)
    form = {"files": {"file": FILES[3]}, "data": {"instruction": TO_RED, "k": 5}}
    answer = post(composing, "/compose", **form)
    assert ids(answer) == [hit.id for hit in expected]
    close([hit["score"] for hit in answer.json()["hits"]], [hit.score for hit in expected])
    for image in (base64_of(FILES[3]), data_url(FILES[3])):
        body = {"image": image, "instruction": TO_RED, "k": 5}
        assert post(composing, "/compose", json=body).json() == answer.json()


def test_a_row_may_be_the_reference_and_is_left_out(
    composing: Any, embedder: Path, composed_index: Path
) -> None:
    answer = post(composing, "/compose", json={"id": "p/3", "instruction": TO_RED, "k": ROWS})
    small = get(composing, "/thumbnails/p%2F3").content
    everything = found(composed_index, of_queries(embedder, [small], [TO_RED]), ROWS)
    assert ids(answer) == [id for id in everything if id != "p/3"] and len(ids(answer)) == ROWS - 1
    fewer = post(composing, "/compose", json={"id": "p/3", "instruction": TO_RED, "k": 3})
    assert ids(fewer) == ids(answer)[:3]
    nothing = post(composing, "/compose", json={"id": "p/99", "instruction": TO_RED})
    assert problem(nothing, 404)["param"] == "id"


def test_all_kinds_at_once_share_batches_and_each_gets_its_own(embedder: Path, composed_index: Path) -> None:
    app = app_of(embedder, composed_index, batch_wait_ms=50)
    expected = {
        "composed": found(composed_index, of_queries(embedder, FILES[1:2], [TO_RED])),
        "text": found(composed_index, of_texts(embedder, TEXTS[1])),
        "image": found(composed_index, of_pictures(embedder, FILES[2])),
    }

    async def ask(client: httpx.AsyncClient) -> None:
        requests = {
            "composed": ("/compose", {"image": base64_of(FILES[1]), "instruction": TO_RED}),
            "text": ("/search", {"text": TEXTS[1]}),
            "image": ("/search", {"image": base64_of(FILES[2])}),
        }
        kinds = list(requests) * 6
        answers = await asyncio.gather(
            *(client.post(requests[kind][0], json=requests[kind][1]) for kind in kinds)
        )
        for kind, answer in zip(kinds, answers, strict=True):
            assert ids(answer) == expected[kind], kind

    asked(app, ask)
    numbers = get(app, "/metrics").text
    count = float(numbers.partition("saga_batch_items_count ")[2].partition("\n")[0])
    assert count < 18, "items of several requests were embedded together"
    assert 'saga_texts_total{endpoint="/compose"} 6' in numbers
    assert 'saga_pictures_total{endpoint="/compose"} 6' in numbers


def test_models_say_what_is_taken(composing: Any, app: Any, embedder: Path) -> None:
    [shown] = get(composing, "/models").json()["data"]
    assert (shown["accepts"], shown["attention"]) == (["image", "text", "composed"], False)
    assert shown["embedding_size"] == loaded(embedder).width and shown["image_size"] == 112
    assert shown["hash"] == models.hash_of(embedder)
    assert get(app, "/models").json()["data"][0]["accepts"] == ["image"]


def test_where_an_embedder_looked_is_not_to_be_had(composing: Any) -> None:
    error = problem(post(composing, "/attention", files={"file": FILES[0]}), 404)
    assert error["code"] == "no_attention" and "serve an encoder" in error["message"]


def test_an_encoder_says_which_model_texts_and_instructions_need(app: Any) -> None:
    wrong = [
        (400, post(app, "/v1/embeddings", json={"input": [TEXTS[0]]})),
        (400, post(app, "/embed", data={"texts": TEXTS[0]})),
        (400, post(app, "/search", json={"text": TEXTS[0]})),
        (404, post(app, "/compose", json={"id": "p/1", "instruction": TO_RED})),
        (404, post(app, "/compose", content=b"{")),
    ]
    for status, answer in wrong:
        message = problem(answer, status)["message"]
        assert "takes pictures and no text" in message and "`saga cir train`" in message


@pytest.mark.parametrize(
    ("path", "body", "words", "param"),
    [
        ("/v1/embeddings", {"input": [TEXTS[0], LONG]}, "text 1 has 6", "input.1"),
        ("/v1/embeddings", {"input": "word " * 200_000}, "has 1,000,000 characters: it may", "input"),
        ("/v1/embeddings", {"input": ""}, "the text is empty", "input"),
        ("/v1/embeddings", {"input": [data_url(FILES[0]), " \n"]}, "text 1 is empty", "input.1"),
        ("/v1/embeddings", {"input": [1, 2, 3]}, "input holds token ids; give a text", "input"),
        ("/v1/embeddings", {"input": [TEXTS[0], None]}, "give a text, or a picture", "input.1"),
        ("/v1/embeddings", {"input": [[TEXTS[0]]]}, "give a text, or a picture", "input.0"),
        ("/v1/embeddings", {"input": {"text": TEXTS[0]}}, "give a text, or a picture", "input"),
        ("/v1/embeddings", {"input": [TEXTS[0], data_url(b"x")]}, "picture 1 is none", "input.1"),
        ("/v1/embeddings", {"input": ["a"] * 300}, "input has 300 items: at most 256", "input"),
        ("/v1/embeddings", {"input": "https://example.org/a.png"}, "not fetched", None),
        ("/search", {"text": LONG}, "the text has 6", "text"),
        ("/search", {"text": ""}, "the text is empty", "text"),
        ("/search", {"text": "a", "id": "p/1"}, "give a text, a picture or the id", None),
        ("/search", {"text": 3}, "text is not as it should be", "text"),
        ("/compose", {"id": "p/1", "instruction": LONG}, "the instruction has 6", "instruction"),
        ("/compose", {"id": "p/1", "instruction": " "}, "the instruction is empty", "instruction"),
        ("/compose", {"id": "p/1"}, "instruction is missing", "instruction"),
        ("/compose", {"instruction": TO_RED}, "give a picture or the id of a row", None),
        ("/compose", {"id": "p/1", "image": "aaaa", "instruction": TO_RED}, "one of these", None),
        ("/compose", {"id": "p/1", "instruction": TO_RED, "text": "a"}, "does not know", None),
        ("/compose", {"id": "p/1", "instruction": TO_RED, "k": 0}, "k is not as it should be", "k"),
        ("/compose", {"id": "p/1", "instruction": TO_RED, "k": 101}, "at most 100 are given", "k"),
        ("/compose", {"image": "not base64!", "instruction": TO_RED}, "not valid base64", "image"),
        ("/compose", {"image": base64_of(b"x"), "instruction": TO_RED}, "the picture is none", "image"),
        ("/compose", [], "the body", None),
    ],
)
def test_what_cannot_be_embedded_gets_one_sentence(
    composing: Any, path: str, body: Any, words: str, param: str | None
) -> None:
    error = problem(post(composing, path, json=body), 400)
    assert words in error["message"] and error["param"] == param, error
    assert "Modify" not in error["message"], "the prompt is the server's own affair"


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"content": b"{"},
        {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}},
        {"data": {"instruction": TO_RED}},
        {"files": {"file": FILES[0]}},
        {"files": {"file": FILES[0], "instruction": b"a file"}},
        {"files": {"file": b"no picture"}, "data": {"instruction": TO_RED}},
        {"files": {"file": FILES[0]}, "data": {"instruction": TO_RED, "k": "many"}},
        {"files": {"file": FILES[0]}, "data": {"instruction": TO_RED, "id": "p/1"}},
        {"files": {"file": FILES[0]}, "data": {"instruction": ""}},
        {"files": {"file": (None, "a text field")}, "data": {"instruction": TO_RED}},
    ],
)
def test_a_wrong_form_for_compose_gets_one_sentence(composing: Any, request_: dict[str, Any]) -> None:
    problem(post(composing, "/compose", **request_), 400)


@pytest.mark.parametrize(
    "text", ["<image>", "<first> </s> <pad>", "\0", "\u202e", "🪑" * 50, "ß̈" * 50, '"{}[]']
)
def test_odd_texts_are_embedded_or_refused(composing: Any, text: str) -> None:
    for path, body in (
        ("/v1/embeddings", {"input": text}),
        ("/search", {"text": text}),
        ("/compose", {"id": "p/1", "instruction": text}),
    ):
        answer = post(composing, path, json=body)
        assert answer.status_code == 200 or problem(answer, 400), (path, answer.text)


@pytest.mark.parametrize(
    ("path", "body", "words", "param"),
    [
        ("/v1/embeddings", {"input": "a \ud800 chair"}, "the text is no valid Unicode", "input"),
        ("/v1/embeddings", {"input": [TEXTS[0], "\udfff"]}, "text 1 is no valid Unicode", "input.1"),
        ("/v1/embeddings", {"input": "data:image/png,\ud800"}, "no valid data URL", "input"),
        ("/search", {"text": "a \ud800 chair"}, "the body", None),
        ("/compose", {"id": "p/1", "instruction": "\ud800"}, "the body", None),
    ],
)
def test_half_a_character_is_refused_in_a_sentence(
    composing: Any, path: str, body: Any, words: str, param: str | None
) -> None:
    headers = {"Content-Type": "application/json"}
    error = problem(post(composing, path, content=json.dumps(body), headers=headers), 400)
    assert words in error["message"] and error["param"] == param, error


@pytest.mark.parametrize(
    ("path", "field"), [("/embed", "texts"), ("/search", "text"), ("/compose", "instruction")]
)
def test_half_a_character_in_a_form_is_refused_too(composing: Any, path: str, field: str) -> None:
    parts = [b"--y\r\nContent-Disposition: form-data; name=id\r\n\r\np/1\r\n"] if path == "/compose" else []
    parts.append(f"--y\r\nContent-Disposition: form-data; name={field}\r\n\r\na \\ud800\r\n".encode())
    headers = {"Content-Type": "multipart/form-data; boundary=y; charset=unicode_escape"}
    problem(post(composing, path, content=b"".join([*parts, b"--y--\r\n"]), headers=headers), 400)


def test_a_forms_field_may_hold_a_picture_as_large_as_a_body_may_be(composing: Any) -> None:
    large = base64_of(FILES[3] + bytes(2 << 20))
    for image in (large, f"data:image/png;base64,{large}"):
        form = {"image": (None, image)}
        assert ids(post(composing, "/search", files=form))[0] == "p/3"
        assert ids(post(composing, "/compose", files={**form, "instruction": (None, TO_RED)}))


def test_without_an_index_nothing_is_composed(embedder: Path) -> None:
    app = app_of(embedder)
    answer = post(app, "/compose", files={"file": FILES[0]}, data={"instruction": TO_RED})
    assert problem(answer, 404)["code"] == "no_index"


def test_an_index_of_another_model_is_refused(
    embedder: Path, composed_index: Path, model: Path, index: Path, tmp_path: Path
) -> None:
    longer = shutil.copytree(embedder, tmp_path / "longer")
    config = json.loads((longer / "embedder.json").read_text())
    (longer / "embedder.json").write_text(json.dumps({**config, "end": True}))
    wrong = [(embedder, index), (model, composed_index), (longer, composed_index)]
    for served, built in wrong:
        settings = ServeSettings(model=str(served), index=str(built))
        for refused in (pin, lambda own, folder=served: Engine(folder, own)):
            with pytest.raises(UserError, match="built by another model"):
                refused(settings)
    assert pin(ServeSettings(model=str(embedder), index=str(composed_index))).fetch() == embedder


def test_the_hash_changes_with_weights_prompt_and_preprocessing(
    embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(embedder, tmp_path / "copy")
    hashes = [models.hash_of(embedder)]
    assert models.hash_of(copy) == hashes[0] != embedder_hash(embedder)
    (copy / "model" / "projector.safetensors").open("ab").write(b" ")
    hashes.append(models.hash_of(copy))
    monkeypatch.setattr("saga_ray.composed.identity.PREPROCESSING", "another")
    hashes.append(models.hash_of(copy))
    monkeypatch.setattr(prompts, "image", lambda: "What is it?")
    hashes.append(models.hash_of(copy))
    assert len(set(hashes)) == 4


def test_a_run_of_cir_train_stands_for_its_last_stage(embedder: Path, tmp_path: Path) -> None:
    run = tmp_path / "chairs"
    for stage in ("align", "instruct"):
        shutil.copytree(embedder, run / "arms" / stage / "model")
        assert models.find(str(run)) == run / "arms" / stage / "model"
    assert pin(ServeSettings(model=str(run))).name == "chairs-instruct"
    with pytest.raises(UserError, match="holds no model"):
        models.find(str(tmp_path))


def test_the_commands_build_and_add_with_an_embedder(embedder: Path, tmp_path: Path) -> None:
    some, more, folder = (tmp_path / name for name in ("some", "more", "index"))
    for pictures, number in ((some, 2), (more, 4)):
        for place, content in enumerate(FILES[:number]):
            file = pictures / ("chair" if place % 2 else "table") / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    assert main(["index", "build", str(embedder), "--data", str(some), "--output", str(folder)]) == 0
    assert main(["index", "add", str(folder), "--data", str(more), "--existing", "skip"]) == 0
    index = Index.open(folder)
    assert (index.size, index.encoder_hash) == (4, models.hash_of(embedder))
    for place, hits in enumerate(index.search(of_pictures(embedder, *FILES), 1)):
        assert hits[0].id.endswith(f"/{place}.png") and hits[0].score == pytest.approx(1, abs=1e-4)


def test_many_texts_are_cut_up_while_others_are_embedded(embedder: Path) -> None:
    """The tokenizer is one for all threads."""
    app = app_of(embedder)

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        texts = [[f"chair number {place} " * (1 + place % 9)] * 20 for place in range(20)]
        return await asyncio.gather(*(client.post("/v1/embeddings", json={"input": each}) for each in texts))

    assert {answer.status_code for answer in asked(app, ask)} == {200}
