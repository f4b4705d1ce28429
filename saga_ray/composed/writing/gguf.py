"""GGUF files as folders that vLLM loads: vLLM has no reader of its own for them, transformers has."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from saga_ray.config.home import home
from saga_ray.errors import UserError


def unpacked(file: Path, *, tokenizer: bool) -> Path:
    """A folder with the file's model in bfloat16, dequantised, and with its `tokenizer`.

    It is made the first time (20 to 60 s for SmolLM2-135M) and kept under ``$SAGA_HOME/llms``, named by the
    file's content; that folder must be one that all workers see.

    Raises:
        UserError: the file is not there, or transformers does not read it.
    """
    if not file.is_file():
        raise UserError(f"{file}: there is no such GGUF file")
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    kept = "" if tokenizer else "-without-tokenizer"
    folder = home() / "llms" / f"{file.stem}-{digest[:12]}{kept}"
    if folder.is_dir():
        return folder
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _convert(file, aside, tokenizer)
    except Exception as error:  # a file that is damaged or of an unknown architecture may raise anything
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(f"{file}: transformers cannot read this GGUF file: {error}") from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    aside.rename(folder)
    return folder


def _convert(file: Path, folder: Path, tokenizer: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(folder)
    if tokenizer:
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
