"""What alignment starts with: a tower, and a supervisor that has learned nothing about its tokens yet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from saga_ray.config.alignment import AlignmentSettings
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.models import supervisors, towers
from saga_ray.models.supervisors import _llava_assemble
from saga_ray.models.supervisors._pocket_scheme import AnswerScheme
from saga_ray.models.supervisors._pocket_tokenizer import build_tokenizer
from saga_ray.models.supervisors.llava import Llava
from saga_ray.models.supervisors.pocket import Pocket, Projector
from saga_ray.models.towers import Tower
from saga_ray.models.towers.conversion import external, timm
from saga_ray.prompts import vocabulary as vocabularies
from saga_ray.prompts.vocabulary import Vocabulary


def tower_of(settings: AlignmentSettings) -> Tower:
    """The tower of a folder that holds one itself, of a supervisor, or of a checkpoint of a vision model.
    Raises UserError where there is none."""
    name, folder = settings.tower, Path(settings.tower).expanduser()
    stored = next(
        (each for each in (folder, supervisors.SHIPPED / name / "tower") if (each / "tower.json").is_file()),
        None,
    )
    if stored is None and not (folder / supervisors.DESCRIPTION).is_file():
        if (folder / "config.json").is_file():
            if timm.is_checkpoint(folder):
                return timm.of_checkpoint(folder, settings.image_size)
            return external.of_checkpoint(folder, settings.image_size)
        if folder.is_dir() or len(folder.parts) > 1:
            raise UserError(
                f"tower={name} holds no supervisor ({supervisors.DESCRIPTION}), no tower (tower.json) and no "
                "checkpoint of a vision model (config.json): name a folder that does"
            )
    if settings.image_size is not None:
        raise UserError(f"tower={name} reads pictures of one size: leave image_size out")
    return towers.load(stored or supervisors.find(name) / "tower")


def fresh_pocket(
    output: Path,
    vocabulary: Vocabulary,
    attributes: dict[str, tuple[str, ...]],
    table: ImageTable,
    tower: Tower,
    settings: AlignmentSettings,
) -> Pocket:
    """A pocket supervisor with random weights whose tokenizer fits the table; `attributes` with their
    values."""
    scheme = AnswerScheme(item=vocabulary.item, verdict_key=vocabulary.verdict_key, attributes=attributes)
    # Words alone, of all classes: captions and instructions may name them. Nothing is learned from them here.
    tokenizer = build_tokenizer(scheme, table.classes)
    prompt = 2 * tower.tokens_per_image + 3
    ends: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=max(256, prompt + scheme.answer_length + 2),
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_base},
        tie_word_embeddings=False,
        **ends,
    )
    language_model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    language_model.generation_config = GenerationConfig(**ends)  # type: ignore[no-untyped-call]
    projector = Projector(tower.token_width, settings.width, tower.tokens_per_image)
    torch.nn.init.normal_(projector.positions, std=0.02)
    return Pocket(output, settings.name or output.name, scheme, tokenizer, language_model, projector)


def fresh_projector(
    folder: Path, name: str, vocabulary: Vocabulary, tower: Tower, settings: AlignmentSettings
) -> Llava:
    """A frozen language model behind the tower, with a projector of random weights that trains; its whole
    folder is written to `folder`. On a GPU where there is one.

    Raises:
        UserError: the language model's folder is not whole, or holds what cannot be asked or replayed.
    """
    assert settings.language_model is not None
    language = Path(settings.language_model).expanduser()
    tokenizer = _llava_assemble.tokenizer_with_image(language)
    with tempfile.TemporaryDirectory() as written:
        words = Path(written) / "vocabulary.toml"
        vocabularies.write(vocabulary, words)
        _llava_assemble.put_together(
            tower, torch.float32, language, tokenizer, folder, str(words), settings.seed
        )
    supervisor = supervisors.load(folder, "bfloat16" if settings.bfloat16 else "float32")
    assert isinstance(supervisor, Llava)
    supervisor.name = supervisor.description["name"] = name
    supervisor.projector.requires_grad_(True)
    return supervisor.to("cuda" if torch.cuda.is_available() else "cpu")
