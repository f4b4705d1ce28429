"""The encoder: tower and pooler, all that is left at inference (paper section 3.1).

A stored encoder is a folder with ``config.json`` and ``encoder.safetensors``; it needs nothing of the
supervisor that taught it.

Legend: B images, H and W height and width, N patch tokens, D token width, E embedding size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from saga_ray.config.settings import EncoderSettings
from saga_ray.errors import UserError
from saga_ray.models import adapters, towers
from saga_ray.models.pooler import Pooler
from saga_ray.models.towers import Tower

if TYPE_CHECKING:  # who only uses a trained encoder needs no language models, and their import is slow
    from saga_ray.models.supervisors.base import Supervisor

Precision = Literal["float32", "bfloat16"]
CONFIG, WEIGHTS = "config.json", "encoder.safetensors"


class Encoder(nn.Module):
    """Pictures to embeddings. ``precision`` is the tower's arithmetic; weights and pooler stay float32."""

    def __init__(self, tower: Tower, pooler: Pooler, precision: Precision = "float32") -> None:
        super().__init__()
        self.tower = tower
        self.pooler = pooler
        self.precision: Precision = precision

    @classmethod
    def start_of(cls, supervisor: Supervisor, settings: EncoderSettings) -> Encoder:
        """The encoder that every run starts from: the supervisor's own tower and mean pooling."""
        tower = supervisor.build_tower()
        pooler = Pooler(tower.pooled_width, settings.embedding_size, settings.pooling)
        return cls(tower, pooler, settings.precision)

    def tokens(self, images_BHWC: Tensor) -> Tensor:
        """The tower's tokens x_BND in the pooler's precision, where all losses meet."""
        with torch.autocast(images_BHWC.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            x_BND: Tensor = self.tower(images_BHWC)
        return x_BND.to(self.pooler.linear.weight.dtype)

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """L2-normalised embeddings z_BE of uint8 RGB pictures."""
        z_BE: Tensor = self.pooler(self.tokens(images_BHWC))[0]
        return z_BE

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Store the encoder, its adapters, if any, added to its weights; ``config.json`` is written last, so
        that a folder that has it is complete. `weights`: these in place of its own (gathered from shards)."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = adapters.merged(self) if weights is None else weights
        state = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        config = {
            "tower": {"name": self.tower.name, "config": dict(self.tower.config())},
            "pooler": {
                "token_width": self.pooler.token_width,
                "embedding_size": self.pooler.embedding_size,
                "pooling": self.pooler.pooling,
            },
            "precision": self.precision,
            "image_size": self.tower.image_size,
        }
        _replace(folder / WEIGHTS, to_safetensors(state))
        _replace(folder / CONFIG, (json.dumps(config, indent=1) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """The encoder stored in a folder, on the CPU, in evaluation mode.

        Raises:
            UserError: the folder holds no complete encoder.
        """
        if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
            raise UserError(f"{folder} holds no encoder: it needs {CONFIG} and {WEIGHTS}")
        config = json.loads((folder / CONFIG).read_text())
        tower = towers.build(config["tower"]["name"], config["tower"]["config"])
        encoder = cls(tower, Pooler(**config["pooler"]), config["precision"])
        encoder.load_state_dict(load_file(folder / WEIGHTS))
        return encoder.eval()


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
