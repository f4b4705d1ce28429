"""Asks a language model for an edit of a captioned picture, (instruction, caption of the edited picture), and
reads its answer.

InstructCIR's second stage trains on such edits, written by GPT-4o from a picture's caption alone; its prompt
is not published, so the words here are this project's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from saga_ray.prompts.objects import objects

INSTRUCTION, CAPTION = "instruction", "modified_caption"
"""The answer's keys."""

TASK = (
    "You are given the caption of a photo. Think of one edit that changes something one can see in it: "
    "{aspect}. Write a short instruction that asks for the edit, then the caption of the edited photo, which "
    "keeps all else as it was. "
    f'Answer with one JSON object and nothing else: {{{{"{INSTRUCTION}": "...", "{CAPTION}": "..."}}}}'
    "\nCaption: {caption}"
)

ASPECTS = (
    "a colour",
    "the main object",
    "the place or the background",
    "what someone or something does",
    "the number of things",
    "a material or a pattern",
    "the weather or the time of day",
    "something that is added or taken away",
)
"""What an edit changes; a caption's edits go through them in turn, so that they differ."""

EXAMPLES = (
    (
        "two brown horses graze in a green meadow",
        "the main object",
        "put sheep in place of the horses",
        "two white sheep graze in a green meadow",
    ),
    (
        "a woman in a red coat waits at a bus stop",
        "the weather or the time of day",
        "let it snow",
        "a woman in a red coat waits at a snowy bus stop",
    ),
    (
        "wooden kitchen table with a bowl of lemons",
        "a colour",
        "paint the table blue",
        "blue kitchen table with a bowl of lemons",
    ),
)
"""Caption, aspect, instruction, edited caption."""

LONGEST_INSTRUCTION = 200
"""Characters; an edited caption may have twice those of the original and `SPARE` more."""
SPARE = 100

Reason = Literal[
    "no JSON answer", "blank", "the instruction is a caption", "nothing changed", "too long", "copied"
]
"""Why an answer is of no use. `copied`: from an example of the prompt."""

ARTICLES = {"a", "an", "the"}


@dataclass(frozen=True)
class Edit:
    """What to change, and what the picture then shows; each is one line."""

    instruction: str
    caption: str


def messages(caption: str, aspect: str) -> list[dict[str, str]]:
    """The chat that asks for an edit: the examples as earlier turns, no system turn (not all models take
    one)."""
    chat = []
    for shown, changed, instruction, edited in EXAMPLES:
        answer = json.dumps({INSTRUCTION: instruction, CAPTION: edited})
        chat += [_turn("user", TASK.format(aspect=changed, caption=shown)), _turn("assistant", answer)]
    return [*chat, _turn("user", TASK.format(aspect=aspect, caption=caption))]


def schema() -> dict[str, Any]:
    """The answer's JSON schema, for engines that can keep a model to one."""
    text = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "properties": {INSTRUCTION: text, CAPTION: text},
        "required": [INSTRUCTION, CAPTION],
        "additionalProperties": False,
    }


def longest_answer(caption: str) -> int:
    """Tokens that an answer about a caption may have: room for it, rewritten, and for the instruction."""
    return 128 + len(caption) // 2


def parse(answer: str, caption: str) -> Edit | Reason:
    """The edit in a model's answer to `messages(caption, …)`, or why it is of no use.

    Text around the JSON object does not matter; of several objects the last with both keys counts.
    """
    found = [each for each in objects(answer, CAPTION) if INSTRUCTION in each and CAPTION in each]
    if not found:
        return "no JSON answer"
    instruction, edited = _line(found[-1][INSTRUCTION]), _line(found[-1][CAPTION])
    if not _bare(instruction) or not _bare(edited):
        return "blank"
    if _bare(instruction) in (_bare(caption), _bare(edited)):
        return "the instruction is a caption"
    if _bare(edited) == _bare(caption):
        return "nothing changed"
    if len(instruction) > LONGEST_INSTRUCTION or len(edited) > 2 * len(caption) + SPARE:
        return "too long"
    if any(_bare(edited) == _bare(shown) for _, _, _, shown in EXAMPLES):
        return "copied"
    return Edit(instruction, edited)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _line(value: object) -> str:
    """A string as one line; empty for anything else. Half characters (lone surrogates), which no file takes,
    go."""
    if not isinstance(value, str):
        return ""
    return " ".join(value.encode("utf-8", "ignore").decode("utf-8").split())


def _bare(text: str) -> str:
    """What is compared: letters and digits alone, in lower case, without articles."""
    words = ("".join(letter for letter in word if letter.isalnum()) for word in text.casefold().split())
    return "".join(word for word in words if word not in ARTICLES)
