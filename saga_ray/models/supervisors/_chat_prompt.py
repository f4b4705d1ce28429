"""A prompt of pictures and a text inside a tokenizer's chat template, cut where the pictures stand.

Two kinds of template are in use. Those of multimodal models are given parts (image, image, text) and place
the pictures themselves, as LLaVA-1.5's does; those of language models are given one text, into which the
placeholders are written before the instruction, a line each, as LLaVA was trained. Tokens are those that
transformers' own processors make, where they repeat the placeholder once a token; InternVL's also writes a
mark before and behind each picture, which its template leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from saga_ray.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "What is it?"


class ChatPrompt:
    """Lays out what a user asks.

    `where` names the tokenizer's folder in messages; `marks` are the tokens before and those behind a picture
    that the chat template leaves to the model's processor. Raises UserError where the tokenizer has no chat
    template, lacks the image token or a mark, or its template takes no pictures.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_token: str,
        where: object,
        marks: tuple[Sequence[str], Sequence[str]] = ((), ()),
    ) -> None:
        self.tokenizer: Any = tokenizer
        self.image_token = image_token
        if tokenizer.chat_template is None:
            raise UserError(
                f"The tokenizer in {where} has no chat template: copy the model's chat_template.jinja there."
            )
        known = tokenizer.get_vocab()
        for token in (image_token, *marks[0], *marks[1]):
            if token not in known:
                raise UserError(
                    f"The tokenizer in {where} has no token {token!r} for pictures: "
                    "make the folder with `saga supervisor assemble`."
                )
        self.image_token_id: int = known[image_token]
        self._marks = [[int(known[mark]) for mark in side] for side in marks]
        self._in_parts = self._takes(in_parts=True)
        if not self._in_parts and not self._takes(in_parts=False):
            raise UserError(
                f"The chat template in {where} keeps neither picture nor text of what a user asks: "
                "copy the model's own chat_template.jinja there."
            )

    def around(self, text: str, images: int) -> list[list[int]]:
        """Token ids before, between and after so many pictures, which stand before the text: one list more
        than there are pictures. Raises UserError for a text that holds the placeholder itself.
        """
        asked = self._render(text, images, self._in_parts)
        # As transformers' processors do: a template may write the first token itself.
        first = self.tokenizer.bos_token
        special = first is None or not asked.startswith(first)
        ids: list[int] = self.tokenizer(asked, add_special_tokens=special)["input_ids"]
        pieces: list[list[int]] = [[]]
        for token in ids:
            if token == self.image_token_id:
                pieces.append([])
            else:
                pieces[-1].append(token)
        if len(pieces) != images + 1:
            raise UserError(
                f"the text {text[:60]!r}… holds {self.image_token}, which stands for a picture: take it out"
            )
        before, behind = self._marks
        for at in range(images):
            pieces[at] = [*pieces[at], *before]
            pieces[at + 1] = [*behind, *pieces[at + 1]]
        return pieces

    def _takes(self, in_parts: bool) -> bool:
        try:
            asked = self._render(_PROBE, 2, in_parts)
        except (TemplateError, TypeError):  # one kind of template fails on the other's input, or prints it
            return False
        return asked.count(self.image_token) == 2 and _PROBE in asked

    def _render(self, text: str, images: int, in_parts: bool) -> str:
        content: str | list[dict[str, str]]
        if in_parts:
            content = [{"type": "image"}] * images + [{"type": "text", "text": text}]
        else:
            content = f"{self.image_token}\n" * images + text
        messages = [{"role": "user", "content": content}]
        asked: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return asked


def end_of_answer(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token with which the chat template ends an answer: `<|end|>` of Phi-3.5, where the tokenizer's own
    end of sequence is another.
    """
    said: Any = tokenizer
    turns = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": "It is that."}]
    try:
        after = said.apply_chat_template(turns, tokenize=False).rpartition("It is that.")[2]
    except (TemplateError, TypeError):  # a template that takes parts only: those end with the tokenizer's own
        after = ""
    ends = [token for token in said.tokenize(after) if token in said.get_added_vocab()]
    if not ends and said.eos_token is None:
        raise UserError("the tokenizer names no end of sequence: set eos_token in its tokenizer_config.json")
    return str(ends[0] if ends else said.eos_token)
