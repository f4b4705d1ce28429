"""Makes a supervisor's folder of a released checkpoint, whichever family it is of.

A module `_<family>_assemble` per kind of folder; here is what they share: finding the family, looking at
configuration and tokenizer, and a folder that appears whole or not at all.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from saga_ray.errors import UserError
from saga_ray.models.supervisors._chat import describe
from saga_ray.prompts import vocabulary as vocabularies

IMAGE_SIZE = 224
"""The paper's."""


def of_checkpoint(checkpoint: Path, output: Path, vocabulary: str | None, image_size: int | None) -> None:
    """Take a whole multimodal checkpoint as a supervisor named as its folder. Raises UserError where it is of
    no family, or has parts that the family does not know; nothing is left behind then.
    """
    from saga_ray.models.supervisors import (
        _gemma3_assemble,
        _idefics3_assemble,
        _internvl_assemble,
        _llava_assemble,
        _qwen_vl_assemble,
    )

    kind = config_of(checkpoint).model_type
    if vocabulary is not None:
        vocabularies.load(vocabulary)  # is there one? Weights are read for minutes
    if kind in _llava_assemble.WHOLE:
        if image_size is not None:
            raise UserError("a LLaVA tower reads pictures of one size: leave --image-size out")
        _llava_assemble.of_checkpoint(checkpoint, output, vocabulary)
        return
    of_any_size = {
        **dict.fromkeys(_qwen_vl_assemble.FAMILIES, _qwen_vl_assemble),
        "internvl": _internvl_assemble,
        **dict.fromkeys(_idefics3_assemble.KINDS, _idefics3_assemble),
        "gemma3": _gemma3_assemble,
    }
    if kind not in of_any_size:
        known = ", ".join((*_llava_assemble.WHOLE, *of_any_size))
        raise UserError(
            f"{checkpoint} holds a checkpoint of type {kind!r}; known are {known}, or give a language and a "
            "vision model with --language and --vision."
        )
    of_any_size[kind].of_checkpoint(checkpoint, output, vocabulary, image_size)


def config_of(folder: Path) -> Any:
    """A checkpoint's configuration. Raises UserError."""
    if not (folder / "config.json").is_file():
        raise UserError(f"There is no checkpoint in {folder}: config.json is missing.")
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if stored.get("model_type") == "internvl_chat":  # would run the checkpoint's own code, or ask to
        raise UserError(
            f"{folder} holds InternVL in its authors' layout, which comes with code of its own: take the "
            "checkpoint in that of transformers, whose name ends with -HF."
        )
    try:
        return AutoConfig.from_pretrained(folder)
    except (ValueError, OSError) as error:
        raise UserError(f"{folder / 'config.json'} names no model that transformers knows.") from error


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """A checkpoint's tokenizer, with the chat template that older checkpoints keep beside it. Raises
    UserError."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    except (ValueError, OSError) as error:
        raise UserError(f"There is no tokenizer in {folder} that transformers can read.") from error
    old = folder / "chat_template.json"
    if tokenizer.chat_template is None and old.is_file():
        tokenizer.chat_template = json.loads(old.read_text(encoding="utf-8"))["chat_template"]
    return tokenizer


def image_size(asked: int | None, side: int) -> int:
    """The side of a supervisor's pictures in pixels, where a token's is `side`: the paper's 224, or another
    that is asked for. Raises UserError for what is no whole number of tokens."""
    size = IMAGE_SIZE if asked is None else asked
    if size < side or size % side:
        raise UserError(
            f"--image-size {size}: this model reads squares of {side} pixels; give a multiple of that, such "
            f"as {max(1, round(size / side)) * side}"
        )
    return size


@contextmanager
def new_folder(output: Path, description: Mapping[str, Any]) -> Iterator[Path]:
    """An empty folder that becomes `output` when the block ends well; what describes it, its vocabulary
    included, is written then."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    named = description["vocabulary"]
    if named is not None:
        vocabularies.load(named)  # is there one?
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as made:
        folder = Path(made) / "supervisor"
        folder.mkdir()
        yield folder
        if named is not None and named.endswith(".toml"):
            shutil.copy(named, folder)
            description = {**description, "vocabulary": Path(named).name}
        describe(folder, description)
        folder.rename(output)
