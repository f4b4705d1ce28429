"""A prompt of pictures and a text inside a tokenizer's chat template, cut where the pictures stand.

Two kinds of template are in use. Those of multimodal models are given parts (image, image, text) and place
the pictures themselves, as LLaVA-1.5's does; those of language models are given one text, into which the
placeholders are written before the instruction, a line each, as LLaVA was trained. Tokens are those that
transformers' own processors make, where they repeat the placeholder once a token; those of InternVL, Idefics3
and Gemma 3 also write marks before and behind each picture, which their templates leave out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from saga_ray.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE, _REPLY = "What is it?", "It is that."


class ChatPrompt:
    """Lays out what a user asks.

    `where` names the tokenizer's folder in messages; `marks` are what is written before and behind a picture
    that the chat template leaves to the model's processor: tokens, and words among them; `template_token` is
    what the template writes for a picture, where that is not the image token; `newline`: one more image token
    stands behind a picture, for a mark that was learned. Raises UserError where the tokenizer has no chat
    template, lacks the image token or all tokens of a mark, or its template takes no pictures.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        image_token: str,
        where: object,
        marks: tuple[str, str] = ("", ""),
        template_token: str | None = None,
        newline: bool = False,
    ) -> None:
        self.tokenizer: Any = tokenizer
        self._template_token = template_token or image_token
        if tokenizer.chat_template is None:
            raise UserError(
                f"The tokenizer in {where} has no chat template: copy the model's chat_template.jinja there."
            )
        known, added = tokenizer.get_vocab(), tokenizer.get_added_vocab().keys()
        lacking = [] if image_token in known else [image_token]
        lacking += [mark for mark in marks if mark and not added & set(self.tokenizer.tokenize(mark))]
        if lacking:
            raise UserError(
                f"The tokenizer in {where} has no token {lacking[0]!r} for pictures: "
                "make the folder with `saga supervisor assemble`."
            )
        self.image_token_id: int = known[image_token]
        before, behind = marks
        self._picture = f"{before}{image_token}{behind}"
        self._reserved = {self._template_token, image_token}
        self._newline = newline
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
        # As transformers' processors do: marks are written before the text is cut into tokens, and a template
        # may write the first token itself.
        asked = asked.replace(self._template_token, self._picture)
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
            held = " or ".join(sorted(mark for mark in self._reserved if mark in text))
            raise UserError(f"the text {text[:60]!r}… holds {held}, which stands for a picture: take it out")
        if self._newline:
            pieces[1:] = [[self.image_token_id, *piece] for piece in pieces[1:]]
        return pieces

    def _takes(self, in_parts: bool) -> bool:
        try:
            asked = self._render(_PROBE, 2, in_parts)
        except (TemplateError, TypeError):  # one kind of template fails on the other's input, or prints it
            return False
        return asked.count(self._template_token) == 2 and _PROBE in asked

    def _render(self, text: str, images: int, in_parts: bool) -> str:
        content: str | list[dict[str, str]]
        if in_parts:
            content = [{"type": "image"}] * images + [{"type": "text", "text": text}]
        else:
            content = f"{self._template_token}\n" * images + text
        messages = [{"role": "user", "content": content}]
        asked: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return asked


def end_of_answer(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token with which the chat template ends an answer: `<|end|>` of Phi-3.5, where the tokenizer's own
    end of sequence is another.
    """
    said: Any = tokenizer
    after = ""
    for in_parts in (False, True):  # one kind of template fails on the other's input, or leaves it out
        turns = [
            {"role": role, "content": [{"type": "text", "text": text}] if in_parts else text}
            for role, text in (("user", _PROBE), ("assistant", _REPLY))
        ]
        try:
            _, reply, rest = said.apply_chat_template(turns, tokenize=False).rpartition(_REPLY)
        except (TemplateError, TypeError):
            continue
        if reply:
            after = rest
            break
    ends = [token for token in said.tokenize(after) if token in said.get_added_vocab()]
    if not ends and said.eos_token is None:
        raise UserError("the tokenizer names no end of sequence: set eos_token in its tokenizer_config.json")
    return str(ends[0] if ends else said.eos_token)
