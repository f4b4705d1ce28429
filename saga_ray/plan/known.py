"""Configurations of the released models that the presets name, for planning where their files are not.

Each is what the model's published config.json says of its sizes; what is left out is the library's default,
as there.
"""

from __future__ import annotations

from typing import Any

KNOWN: dict[str, dict[str, Any]] = {
    "qwen3vl-8b": {  # config.json of Qwen/Qwen3-VL-8B-Instruct
        "model_type": "qwen3_vl",
        "tie_word_embeddings": False,
        "text_config": {
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        "vision_config": {
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "out_hidden_size": 4096,
            "patch_size": 16,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    },
    "qwen2.5vl-3b": {  # config.json of Qwen/Qwen2.5-VL-3B-Instruct
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": True,
        "text_config": {
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
        },
        "vision_config": {
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 2048,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    },
    "internvl3.5-8b": {  # config.json of OpenGVLab/InternVL3_5-8B-HF: InternViT-300M-448px and Qwen3-8B
        "model_type": "internvl",
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen3",
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "attention_bias": True,
            "image_size": [448, 448],
            "patch_size": [14, 14],
        },
    },
}
"""By the beginning of a supervisor's name: the presets call theirs `qwen3vl-8b-birds`."""


def known(path: str) -> str | None:
    """The known model that a supervisor's path or name begins with, if any."""
    name = path.rstrip("/").rpartition("/")[2].lower()
    return next((each for each in KNOWN if name.startswith(each)), None)
