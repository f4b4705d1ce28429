"""Captions: JSONL and LLaVA-Pretrain's JSON, and what is said of lines that are neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saga_ray.composed.captions import Caption, read_captions
from saga_ray.errors import UserError


def written(folder: Path, content: str) -> Path:
    file = folder / "captions"
    file.write_text(content, encoding="utf-8")
    return file


def llava(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"id": "1", "image": "0/a.jpg", "conversations": list(turns)}


HUMAN = {"from": "human", "value": "<image>\nWhat is this?"}


def test_a_caption_a_line(tmp_path: Path) -> None:
    lines = [
        '\ufeff{"image": "a.jpg", "caption": " a red\u2028chair ", "id": 7}',
        "",
        '{"image": "b.jpg", "caption": "a lamp"}\r',
    ]
    assert read_captions(written(tmp_path, "\n".join(lines))) == [
        Caption("a.jpg", "a red\u2028chair"),
        Caption("b.jpg", "a lamp"),
    ]


def test_llava_pretrains_list_takes_what_gpt_says_first(tmp_path: Path) -> None:
    entries = [llava(HUMAN, {"from": "gpt", "value": "a red chair\n"}, {"from": "gpt", "value": "more"})]
    assert read_captions(written(tmp_path, "\n" + json.dumps(entries, indent=1))) == [
        Caption("0/a.jpg", "a red chair")
    ]


@pytest.mark.parametrize(
    "content, said",
    [
        ("\n", "has no captions; write"),
        ("[]", "has no captions; write"),
        ('{"image": "a", "caption": "b"}\n{"image": "a"}', "captions line 2: `caption` is missing"),
        ('\n{"image": "a", "caption": " "}', "captions line 2: `caption` is blank"),
        ('{"image": "a", "caption": "\\ud800"}', "captions line 1: `caption` is blank"),
        ('{"image": 7, "caption": "b"}', "captions line 1: `image` is 7 and no text"),
        ("a.jpg\ta chair", "captions line 1: is not JSON"),
        ('"a.jpg"', "captions line 1: is no JSON object"),
        ('[{"image": "a"', "captions: is not JSON: .* line 1"),
        ('[{"image": "a", "caption": "b"}, 3]', "captions entry 2: is no JSON object"),
        (json.dumps([llava(HUMAN)]), "entry 1: `conversations` has no turn"),
        (json.dumps([{"image": "a", "conversations": 3}]), "entry 1: `conversations` has no turn"),
        (json.dumps([llava(HUMAN, {"from": "gpt", "value": ""})]), "entry 1: `value` is blank"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_caption_is_named(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        read_captions(written(tmp_path, content))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    for name in ("picture", "gone"):
        with pytest.raises(UserError, match=f"{name}: cannot be read as text"):
            read_captions(tmp_path / name)
