"""Supervisors of the released models' sizes with random weights, built on the device itself: to measure a
step needs no checkpoint, and nothing has to fit into the computer's memory first.

The released tokenizers are not at hand. One of byte pairs learned from the instruction and an answer stands
in for them; it makes a prompt about as long as `saga plan` takes theirs to do.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from gpu.forced_answers import DESCRIPTIONS, whole_answer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors._chat import LANGUAGE_MODEL, ChatSupervisor
from saga_ray.models.supervisors._qwen_vl import QwenVL
from saga_ray.models.supervisors.internvl import InternVL
from saga_ray.models.supervisors.qwen2_5_vl import Qwen25VL
from saga_ray.models.supervisors.qwen3_vl import Qwen3VL
from saga_ray.models.towers._squares import architecture
from saga_ray.plan.known import KNOWN, known
from saga_ray.plan.sizes import SupervisorSizes
from saga_ray.plan.supervisors import supervisor_sizes
from saga_ray.prompts import vocabulary as vocabularies
from saga_ray.prompts.template import STYLES, instruction
from saga_ray.rollout.engines import length_of_prompt

QWEN: dict[str, type[QwenVL]] = {"qwen3_vl": Qwen3VL, "qwen2_5_vl": Qwen25VL}
PICTURE = {
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "internvl": "<IMG_CONTEXT>\n",
}
"""What a family's chat template writes for a picture."""
MARKS = ("<img>", "</img>")
"""Around InternVL's pictures."""
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<IMG_CONTEXT>",
    *MARKS,
]
TEMPLATE = (
    "{%% for message in messages %%}<|im_start|>{{ message['role'] }}\n"
    "{%% for part in message['content'] %%}{%% if part['type'] == 'image' %%}%s"
    "{%% else %%}{{ part['text'] }}{%% endif %%}{%% endfor %%}<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)
WORDS = 520
"""Of the stand-in tokenizer: so few, or it would know whole sentences of the texts that it learns from."""
HALF = [0.5, 0.5, 0.5]
"""Mean and deviation that pixels are normalised with; of no matter here."""

_TEXT = {
    "vocab_size": 1024,
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
_VISION = {"hidden_size": 64, "intermediate_size": 96}
_QWEN_VISION = _VISION | {"num_heads": 2, "out_hidden_size": 256}
SMALL: dict[str, dict[str, dict[str, Any]]] = {
    "qwen3_vl": {
        "text_config": _TEXT,
        "vision_config": _QWEN_VISION | {"depth": 3, "deepstack_visual_indexes": [0, 1]},
    },
    "qwen2_5_vl": {
        "text_config": _TEXT | {"bos_token_id": None, "eos_token_id": None},
        "vision_config": _QWEN_VISION | {"depth": 2, "fullatt_block_indexes": [1]},
    },
    "internvl": {
        "text_config": _TEXT,
        "vision_config": _VISION | {"num_hidden_layers": 2, "num_attention_heads": 2},
    },
}
"""What a small configuration of an architecture changes in a released one."""
SMALL_PICTURES = {"qwen3_vl": 64, "qwen2_5_vl": 56, "internvl": 56}
"""Their side in pixels: 2 x 2 tokens."""
SMALL_STEP = (
    "data.classes_per_batch=4",
    "data.pairs_per_batch=4",
    "encoder.embedding_size=64",
    "rollout.group_size=2",
    "grpo.informative_pairs=1",
    "distillation.layer=1",
)
"""Settings of a step with it."""


@dataclass(frozen=True)
class Built:
    """A supervisor and the tower that an encoder starts from, on the device."""

    supervisor: ChatSupervisor
    tower: towers.Tower
    sizes: SupervisorSizes
    """As `saga plan` knows them, the prompt's length counted."""


def small_settings(settings: Settings) -> list[str]:
    """What `--small` sets, for the family of a preset's supervisor."""
    return [f"data.image_size={SMALL_PICTURES[_released(settings)['model_type']]}", *SMALL_STEP]


def sizes_of(settings: Settings, small: bool) -> SupervisorSizes:
    """What is to be built; nothing is."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / str(known(settings.supervisor.path))
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(_config(settings, small)))
        return supervisor_sizes(settings, folder)


def build(settings: Settings, device: torch.device, *, small: bool) -> Built:
    """The supervisor of a preset, frozen, in its precision; and its tower in float32.

    Raises:
        UserError: its sizes are not known.
    """
    raw, named = _config(settings, small), settings.supervisor.path.rpartition("-")[2]
    family, words = raw["model_type"], vocabularies.load(named)
    config: Any = AutoConfig.for_model(family, **{key: raw[key] for key in raw if key != "model_type"})
    texts = [instruction(words, style) for style in STYLES]
    texts += [whole_answer(words, "attributes", DESCRIPTIONS[0], verdict) for verdict in ("yes", "no")]
    texts += [f'"{each}" {each}' for each in DESCRIPTIONS] * 6  # often enough to be words of their own
    tokenizer = _tokenizer(texts, PICTURE[family])
    dtype = getattr(torch, settings.supervisor.precision)
    description = {
        "name": known(settings.supervisor.path),
        "vocabulary": named,
        "image_size": settings.data.image_size,
    }
    shape = {"vision": architecture(config.vision_config), "image_size": settings.data.image_size}
    shape |= {"mean": HALF, "std": HALF}
    torch.manual_seed(settings.seed)
    supervisor: ChatSupervisor
    with tempfile.TemporaryDirectory() as made:
        tokenizer.save_pretrained(Path(made) / LANGUAGE_MODEL)
        if family in QWEN:
            config.image_token_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
            kind = QWEN[family]
            model = _on(device, lambda: _without_tower(kind.architecture._from_config(config, dtype=dtype)))
            tower = _tower(family, shape, device)
            supervisor = kind(Path(made), description, tokenizer, model, shape)
        else:
            text = config.text_config
            shape |= {"width": text.hidden_size, "merge": round(1 / config.downsample_ratio)}
            shape["activation"] = config.projector_hidden_act
            description |= {"image_token": "<IMG_CONTEXT>", "image_marks": MARKS, "end": "<|im_end|>"}
            model = _on(device, lambda: AutoModelForCausalLM.from_config(text, dtype=dtype))
            tower = _tower(family, shape, device)
            supervisor = InternVL(Path(made), description, model, tower)
    supervisor.freeze()
    prompt = length_of_prompt(supervisor, settings.supervisor.prompt)
    return Built(supervisor, tower, replace(sizes_of(settings, small), prompt=prompt))


def _on(device: torch.device, make: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """A model that is made without weights, which it then gets on the device."""
    with torch.device("meta"):
        model = make()
    model.to_empty(device=device)
    with torch.device(device):
        model.initialize_weights()
    model.tie_weights()
    return model


def _without_tower(whole: Any) -> PreTrainedModel:
    del whole.model.visual
    model: PreTrainedModel = whole
    return model


def _tower(family: str, shape: dict[str, Any], device: torch.device) -> towers.Tower:
    with torch.device(device):
        return towers.build(family, shape)


def _released(settings: Settings) -> dict[str, Any]:
    name = known(settings.supervisor.path)
    if name is None:
        raise UserError(
            f"the sizes of the supervisor {settings.supervisor.path!r} are not known: name a preset of "
            f"{', '.join(KNOWN)}"
        )
    return KNOWN[name]


def _config(settings: Settings, small: bool) -> dict[str, Any]:
    """The released configuration, or a small one of its architecture."""
    released = _released(settings)
    changes: Mapping[str, dict[str, Any]] = SMALL[released["model_type"]] if small else {}
    return released | {part: released[part] | changed for part, changed in changes.items()}


def _tokenizer(texts: list[str], picture: str) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE % picture,
    )
