"""Whatever is sent, the answer is a 4xx with one clear sentence; what can be read honestly, is."""

from __future__ import annotations

import json
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.serve.cases import (
    app_of,
    asked,
    base64_of,
    data_url,
    embedding_of,
    encoded,
    picture,
    png,
    post,
    problem,
)

GOOD = png()
FORM = {"Content-Type": "multipart/form-data"}
FORM_Y = {"Content-Type": "multipart/form-data; boundary=y"}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claiming(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that says it has this size; its rows are zlib's stream of `rows`."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def text_bomb() -> bytes:
    """A PNG with a comment of 200 MB, compressed."""
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9))
    return GOOD[:33] + comment + GOOD[33:]


def animated(kind: str, **options: Any) -> bytes:
    return encoded(picture(1), kind, save_all=True, append_images=[picture(2)], **options)


def multi(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """A picture at every door."""
    return [
        ("/embed", {"files": {"files": data}}),
        ("/attention", {"files": {"file": data}}),
        ("/search", {"files": {"file": data}}),
        ("/search", {"json": {"image": base64_of(data)}}),
        ("/v1/embeddings", {"json": {"input": data_url(data), "model": "tiny"}}),
        ("/v1/embeddings", {"json": {"input": [{"image": base64_of(data)}], "model": "tiny"}}),
    ]


BAD = {
    "empty": (b"", 400, "is empty"),
    "text": (b"hello " * 100, 400, "must be JPEG"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(100), 400, "must be JPEG"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 400, "must be JPEG"),
    "tiff, not among the formats": (encoded(picture(), "TIFF"), 400, "must be JPEG"),
    "only a signature": (GOOD[:8], 400, ""),
    "truncated png": (GOOD[: len(GOOD) // 2], 400, "damaged or cut off"),
    "truncated jpeg": (encoded(picture(0, (200, 200)), "JPEG")[:-700], 400, "damaged or cut off"),
    "damaged png": (GOOD[:45] + b"\0\0\0\0" + GOOD[49:], 400, "damaged or cut off"),
    "decompression bomb": (claiming(19_000, 19_000, bytes(19_001 * 1000)), 413, "too large"),
    "just above the pixels": (claiming(7_100, 7_100), 413, "too large"),
    "huge dimensions": (claiming(2**31 - 1, 2**31 - 1), 413, "too large"),
    "one long line": (claiming(100_000, 1), 413, "too large"),
    "no size": (claiming(0, 0), 400, ""),
    "animated gif": (animated("GIF"), 400, "is animated"),
    "animated png": (animated("PNG"), 400, "is animated"),
    "animated webp": (animated("WEBP", lossless=True), 400, "is animated"),
    "comment bomb": (text_bomb(), 400, "damaged or cut off"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_usable_picture_is_refused_at_every_door(app: Any, name: str) -> None:
    data, status, words = BAD[name]
    for path, request in multi(data):
        error = problem(post(app, path, **request), status)
        assert words in error["message"] and error["message"].startswith("the picture"), error
        assert error["code"] == "invalid_image" and error["param"]


def sixteen_bits() -> tuple[bytes, Image.Image]:
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    return encoded(Image.fromarray(grey)), Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")


HONEST = {
    "cmyk": (encoded(picture().convert("CMYK"), "JPEG", quality=100, subsampling=0), picture()),
    "16 bit": sixteen_bits(),
    "grey": (encoded(picture().convert("L")), picture().convert("L").convert("RGB")),
    "palette": (encoded(picture().quantize(64)), picture().quantize(64).convert("RGB")),
    "black and white": (encoded(picture().convert("1")), picture().convert("1").convert("RGB")),
    "transparent": (encoded(Image.new("RGBA", (16, 16), (9, 9, 9, 0))), Image.new("RGB", (16, 16), "white")),
    "gif of one frame": (encoded(picture().quantize(64), "GIF"), picture().quantize(64).convert("RGB")),
    "webp": (encoded(picture(), "WEBP", lossless=True), picture()),
    "bmp": (encoded(picture(), "BMP"), picture()),
    "one pixel": (encoded(Image.new("RGB", (1, 1), "red")), Image.new("RGB", (16, 16), "red")),
    "phone's jpeg with a preview": (encoded(picture(), "MPO", quality=100, subsampling=0), picture()),
}


@pytest.mark.parametrize("name", HONEST)
def test_unusual_pictures_are_embedded_as_their_plain_rgb_is(app: Any, model: Path, name: str) -> None:
    data, plain = HONEST[name]
    expected = embedding_of(model, encoded(plain))
    for path, request in multi(data):
        answer = post(app, path, **request)
        assert answer.status_code == 200, (path, answer.text)
        if "data" in answer.json():
            found = answer.json()["data"][0]["embedding"]
            np.testing.assert_allclose([found], expected, atol=0.05)  # JPEG loses a little


@pytest.mark.parametrize(
    "body, words, param",
    [
        ({"input": []}, "input is empty", "input"),
        ({"input": [data_url(GOOD)] * 1000}, "input has 1,000 items: at most 256", "input"),
        ({"input": [1, 2, 3]}, "input holds token ids", "input"),
        ({"input": [[1, 2], [3]]}, "input holds token ids", "input"),
        ({"input": "a red chair"}, "takes pictures and no text", "input"),
        ({"input": ["a red chair", "b"]}, "takes pictures and no text", "input.0"),
        ({"input": "word " * 200_000}, "takes pictures and no text", "input"),
        ({"input": None}, "takes pictures", "input"),
        ({"input": True}, "", "input"),
        ({"input": [None]}, "takes pictures", "input.0"),
        ({"input": {"image": 3}}, "takes pictures", "input"),
        ({"input": {"image": GOOD.hex(), "also": 1}}, "takes pictures", "input"),
        ({"input": {}}, "takes pictures", "input"),
        ({"input": [[data_url(GOOD)]]}, "takes pictures", "input.0"),
        ({"input": {"image": "not base64!"}}, "not valid base64", "input"),
        ({"input": {"image": "abcde"}}, "not valid base64", "input"),
        ({"input": {"image": "\u00e4\u20ac"}}, "not valid base64", "input"),
        ({"input": "data:text/plain;base64,aGVsbG8="}, "data:image/…;base64,… is expected", "input"),
        ({"input": "data:image/png;base64"}, "data:image/…;base64,… is expected", "input"),
        ({"input": "data:image/png;base64,"}, "is empty", "input"),
        ({"input": "data:" + ";" * 100_000}, "is expected", "input"),
        ({"input": "https://example.org/a.png"}, "not fetched", None),
        ({"input": "file:/etc/passwd"}, "takes pictures and no text", "input"),
        ({"input": [data_url(GOOD), data_url(b"x")]}, "picture 1 is none", "input.1"),
        ({}, "input is missing", "input"),
        ({"input": data_url(GOOD), "dimensions": 0}, "dimensions", "dimensions"),
        ({"input": data_url(GOOD), "dimensions": "many"}, "dimensions", "dimensions"),
        ({"input": data_url(GOOD), "encoding_format": "int8"}, "encoding_format", "encoding_format"),
        ({"input": data_url(GOOD), "model": 7}, "model", "model"),
        ({"input": data_url(GOOD), "imput": 1}, "does not know", None),
        ([], "the body", None),
        ("text", "the body", None),
    ],
)
def test_a_wrong_request_for_embeddings_gets_one_sentence(
    app: Any, body: Any, words: str, param: str | None
) -> None:
    error = problem(post(app, "/v1/embeddings", json=body), 400)
    assert words in error["message"] and error["param"] == param, error


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"input": ',
        b"\xff\xfe\x00",
        b'{"input": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"input": 1e999}',
        b'{"input": NaN}',
        b"null",
        b'{"input": [' + b"1," * 100_000 + b"1]}",
        b'{"dimensions": ' + b"9" * 10_000 + b"}",
    ],
)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/search"])
def test_what_is_no_json_is_refused(app: Any, path: str, content: bytes) -> None:
    kind = {"Content-Type": "application/json"}
    problem(post(app, path, content=content, headers=kind), 400)


def test_the_place_of_a_mistake_in_json_is_said(app: Any) -> None:
    answer = post(app, "/v1/embeddings", content=b'{"input": }', headers={"Content-Type": "application/json"})
    assert "the body is no JSON" in problem(answer, 400)["message"]


@pytest.mark.parametrize(
    "path, request_",
    [
        ("/embed", {}),
        ("/embed", {"json": {"files": "x"}}),
        ("/embed", {"data": {"files": "a text field"}}),
        ("/embed", {"files": {"file": GOOD}}),
        ("/embed", {"files": [("files", GOOD)] * 1000}),
        ("/embed", {"files": [("files", GOOD)] * 1001}),
        ("/embed", {"content": b"--x", "headers": FORM}),
        ("/embed", {"content": b"--x\r\n\r\nabc", "headers": FORM_Y}),
        ("/embed", {"content": b"--y\r\nContent-Disp", "headers": FORM_Y}),
        ("/attention", {}),
        ("/attention", {"files": [("files", GOOD)]}),
        ("/search", {}),
        ("/search", {"json": {}}),
        ("/search", {"json": {"image": base64_of(GOOD), "id": "p/1"}}),
        ("/search", {"json": {"id": 3}}),
        ("/search", {"json": {"id": "p/1", "k": 0}}),
        ("/search", {"json": {"id": "p/1", "k": -1}}),
        ("/search", {"json": {"id": "p/1", "k": 101}}),
        ("/search", {"json": {"id": "p/1", "k": 10**30}}),
        ("/search", {"json": {"id": "p/1", "k": 1.5}}),
        ("/search", {"files": {"file": GOOD}, "data": {"k": "many"}}),
        ("/search", {"files": {"file": GOOD}, "data": {"k": "0"}}),
        ("/search", {"data": {"file": "a text field"}}),
        ("/search", {"files": {"other": GOOD}}),
        ("/search", {"files": {"file": GOOD, "k": b"3"}}),
        ("/search", {"content": b"--x", "headers": FORM}),
    ],
)  # fmt: skip
def test_a_wrong_form_gets_one_sentence(app: Any, path: str, request_: dict[str, Any]) -> None:
    problem(post(app, path, **request_), 400)


def test_one_bad_picture_among_many_is_named_and_the_next_request_is_served(app: Any) -> None:
    files = [("files", GOOD), ("files", GOOD[:60]), ("files", b"")]
    error = problem(post(app, "/embed", files=files), 400)
    assert error["message"].startswith("picture 1 is damaged") and error["param"] == "files.1"
    assert post(app, "/embed", files={"files": GOOD}).status_code == 200


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_never_break_the_server(app: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = [("PNG", {}), ("JPEG", {"exif": Image.Exif()}), ("WEBP", {}), ("GIF", {}), ("BMP", {})]

    async def send(client: httpx.AsyncClient) -> None:
        for kind, options in kinds:
            whole = bytearray(encoded(picture(seed, (64, 48)), kind, **options))
            for _ in range(25):
                damaged = bytearray(whole)
                for place in rng.integers(len(damaged), size=rng.integers(1, 9)):
                    damaged[place] = rng.integers(256)
                damaged = damaged[: rng.integers(len(damaged)) if rng.random() < 0.3 else None]
                answer = await client.post("/embed", files={"files": bytes(damaged)})
                if answer.status_code != 200:
                    assert answer.status_code in (400, 413), answer.text
                    problem(answer, answer.status_code)

    asked(app, send)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(data_url(GOOD)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["image", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=60)
@given(value=JSON, field=st.sampled_from(["input", "model", "encoding_format", "dimensions", "user"]))
def test_no_json_breaks_the_server(model: Path, value: Any, field: str) -> None:
    app = _app(model)
    body = {"input": data_url(GOOD), field: value}
    answer = post(
        app, "/v1/embeddings", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        problem(answer, answer.status_code)


@cache
def _app(model: Path) -> Any:
    """Not a fixture of a function, which hypothesis would not make anew."""
    return app_of(model)
