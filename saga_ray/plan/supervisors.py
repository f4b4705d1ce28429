"""A supervisor's sizes, from its folder, a checkpoint's config.json or the known configurations; no weights
are read.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.plan.known import KNOWN, known
from saga_ray.plan.sizes import LanguageSizes, ProjectorSizes, SupervisorSizes
from saga_ray.plan.towers import tower_sizes
from saga_ray.prompts import vocabulary as vocabularies
from saga_ray.prompts.template import instruction

QWEN = ("qwen2_5_vl", "qwen3_vl")
PROJECTED = {"internvl": "internvl", "idefics3": "idefics3", "smolvlm": "idefics3", "gemma3": "gemma3"}
"""By the checkpoint's type, the families whose tower ends behind the projector."""
CHECKPOINTS = (*QWEN, "llava", "llava_onevision", *PROJECTED)
"""Types of checkpoints; those of the supervisors that are made of them are among them."""
CHARACTERS_A_TOKEN = 3.5
"""Of the instruction, where no tokenizer is there: English with JSON."""
TEMPLATE_TOKENS = 24
"""Of the chat template around the instruction, with the marks around two images."""
LONGEST_VOCABULARY = "birds"
"""Asked for where nothing says which: the longest that ships, so that a plan is rather too large."""


def supervisor_sizes(settings: Settings, folder: Path | None = None) -> SupervisorSizes:
    """Sizes of a run's supervisor. `folder`: another supervisor's folder, or one with a checkpoint's
    config.json, to take them from.

    Raises:
        UserError: it is not there and no known configuration has its name, or its family is unknown.
    """
    named = settings.supervisor.path
    if folder is None:
        try:
            folder = supervisors.find(named)
        except UserError as error:
            of = known(named)
            if of is None:
                raise UserError(
                    f"the supervisor {named!r} is not on this disk, and its sizes are known of none but "
                    f"{', '.join(KNOWN)}: name a folder with its config.json by --supervisor"
                ) from error
            return _of_config(KNOWN[of], of, settings, _words(named, None, settings), None)
    folder = folder.expanduser()
    description = _json(folder / supervisors.DESCRIPTION)
    if description is not None:
        return _of_folder(folder, description, settings)
    config = _json(folder / "config.json")
    if config is None:
        raise UserError(
            f"--supervisor {folder} has neither {supervisors.DESCRIPTION} nor config.json: name a "
            "supervisor's folder or a checkpoint's"
        )
    return _of_config(config, folder.name, settings, _words(named, None, settings), folder)


def language_sizes(whole: Any) -> LanguageSizes:
    """Of a configuration of `transformers`, whose text part is a decoder with RMS norms and a gated
    perceptron: Llama, Mistral, Phi-3, Qwen2, Qwen3 and the text parts of Qwen2.5-VL, Qwen3-VL and Gemma 3.
    A sliding window is counted in the last alone: elsewhere layers are planned to see everything.

    Raises:
        UserError: it is of another type.
    """
    config = whole.get_text_config()
    kind = config.model_type
    heads = config.num_attention_heads
    plain, gemma = kind in ("llama", "mistral", "phi3"), kind == "gemma3_text"
    if not plain and not gemma and kind not in ("qwen2", "qwen3", "qwen2_5_vl_text", "qwen3_vl_text"):
        raise UserError(f"`saga plan` does not know language models of the type {kind!r}")
    biased = bool(getattr(config, "attention_bias", False))
    return LanguageSizes(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=heads,
        key_heads=config.num_key_value_heads or heads,
        head_width=getattr(config, "head_dim", None) or config.hidden_size // heads,
        hidden=config.intermediate_size,
        vocabulary=config.vocab_size,
        tied=bool(whole.tie_word_embeddings),
        qkv_bias=kind in ("qwen2", "qwen2_5_vl_text") or biased,
        output_bias=biased and not kind.startswith("qwen2"),
        head_norms=kind in ("qwen3", "qwen3_vl_text") or gemma,
        joint_qkv=kind == "phi3",
        norms=4 if gemma else 2,
        window=config.sliding_window if gemma else None,
        windowed=config.layer_types.count("sliding_attention") if gemma else 0,
        masked=gemma,
    )


def _of_folder(folder: Path, description: dict[str, Any], settings: Settings) -> SupervisorSizes:
    """A supervisor's folder, as its family lays it out."""
    family = description.get("family")
    checkpoint = folder / "language_model"
    config = _json(checkpoint / "config.json")
    if config is None or family not in (*CHECKPOINTS, "pocket"):
        what = "language_model/config.json is missing" if config is None else f"the family is {family!r}"
        raise UserError(f"`saga plan` cannot read the sizes of the supervisor in {folder}: {what}")
    name = str(description["name"])
    words = _words(settings.supervisor.path, description.get("vocabulary"), settings, folder)
    if family in QWEN:
        return _of_config(config, name, settings, words, checkpoint, description["image_size"])
    stored = _json(folder / "tower" / "tower.json")
    if stored is None:
        raise UserError(f"the supervisor in {folder} is not complete: tower/tower.json is missing")
    lora = settings.encoder.lora_rank is not None
    tower = tower_sizes(stored["name"], stored["config"], lora=lora)
    language = language_sizes(_config(config))
    projector = ProjectorSizes()
    if family not in PROJECTED:
        projector = _projector(folder / "projector.safetensors")
    if family == "pocket":
        answer = 4 if settings.supervisor.prompt == "generic" else 2 * len(description["attributes"]) + 6
        prompt = 3 + 2 * tower.tokens
        return SupervisorSizes(name, tower, language, projector, False, prompt, False, answer)
    prompt = _text_tokens(words, checkpoint) + 2 * tower.tokens
    return SupervisorSizes(name, tower, language, projector, False, prompt, True, None)


def _of_config(
    raw: dict[str, Any],
    name: str,
    settings: Settings,
    words: str,
    tokenizer: Path | None,
    image_size: int | None = None,
) -> SupervisorSizes:
    """A checkpoint's configuration. The engine loads all of a Qwen one; of the others the language model
    alone."""
    family = raw.get("model_type")
    if family not in CHECKPOINTS:
        raise UserError(
            f"the config.json of {name} is of the type {family!r}; `saga plan` knows {', '.join(CHECKPOINTS)}"
        )
    config = _config(raw)
    language = language_sizes(config)
    size = image_size or settings.data.image_size
    projector = ProjectorSizes()
    if family in QWEN:
        vision = config.vision_config.to_dict()
        tower = tower_sizes(family, {"vision": vision, "image_size": size})
    elif family in PROJECTED:
        tower = tower_sizes(PROJECTED[family], _projected_config(config, size))
    else:
        tower = tower_sizes("clip", _clip_config(config))
        width = language.width
        maps = ((tower.token_width, width), (width, width))
        beside = 2 * width if config.multimodal_projector_bias else 0
        beside += width if family == "llava_onevision" else 0  # the mark behind a picture
        projector = ProjectorSizes(maps, sum(a * b for a, b in maps) + beside)
    prompt = _text_tokens(words, tokenizer) + 2 * tower.tokens
    return SupervisorSizes(name, tower, language, projector, family in QWEN, prompt, True, None)


def _clip_config(config: Any) -> dict[str, Any]:
    """The tower that `saga supervisor assemble` cuts out of a LLaVA checkpoint."""
    vision, layer = config.vision_config, config.vision_feature_layer
    return {
        "kind": "siglip" if vision.model_type.startswith("siglip") else "clip",
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "width": vision.hidden_size,
        "hidden": vision.intermediate_size,
        "layers": layer if layer >= 0 else vision.num_hidden_layers + 1 + layer,
        "heads": vision.num_attention_heads,
        "activation": vision.hidden_act,
    }


def _projected_config(config: Any, image_size: int) -> dict[str, Any]:
    """The tower that `saga supervisor assemble` cuts out of a checkpoint, projector included, of what
    counts."""
    vision = config.vision_config
    if config.model_type == "internvl":
        merge = round(1 / config.downsample_ratio)
    elif config.model_type == "gemma3":
        merge = vision.image_size // vision.patch_size // math.isqrt(config.mm_tokens_per_image)
    else:
        merge = config.scale_factor
    width = config.get_text_config().hidden_size
    return {"vision": vision.to_dict(), "width": width, "merge": merge, "image_size": image_size}


def _projector(path: Path) -> ProjectorSizes:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as stored:
        shapes = {name: stored.get_slice(name).get_shape() for name in sorted(stored.keys())}
    maps = [
        (shape[1], shape[0]) for name, shape in shapes.items() if name.endswith("weight") and len(shape) == 2
    ]
    return ProjectorSizes(tuple(maps), sum(math.prod(shape) for shape in shapes.values()))


def _words(path: str, named: str | None, settings: Settings, folder: Path | None = None) -> str:
    """The instruction's text."""
    shipped = sorted(file.stem for file in vocabularies.FOLDER.glob("*.toml"))
    of = named or next((each for each in shipped if path.endswith(each)), LONGEST_VOCABULARY)
    words = vocabularies.load(of, folder) if folder else vocabularies.load(of)
    return instruction(words, settings.supervisor.prompt)


def _text_tokens(text: str, tokenizer: Path | None) -> int:
    """Tokens of a prompt beside the images': the instruction's by its tokenizer, if that is there, and about
    as many more as chat templates have."""
    if tokenizer is None or not (tokenizer / "tokenizer.json").is_file():
        return math.ceil(len(text) / CHARACTERS_A_TOKEN) + TEMPLATE_TOKENS
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    return len(words.encode(text, add_special_tokens=False).ids) + TEMPLATE_TOKENS


def _config(raw: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    given = {key: value for key, value in raw.items() if key != "model_type"}
    return AutoConfig.for_model(raw["model_type"], **given)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: copy it again") from error
    return found
