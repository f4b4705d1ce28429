"""A tiny stand-in for an embedder, and pictures of noise, no two of which are alike."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from saga_ray.composed.benchmarks import Picture


class Tiny(nn.Module):
    """What evaluation asks of an embedder, from a picture's patches and an instruction's checksum."""

    image_size, width, size = 16, 12, 12

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4 * 4 * 3, self.width, generator=generator))

    def forward(self, images_BHWC: Tensor, things: Sequence[str] | None = None) -> Tensor:
        return self._cut(self.tokens(images_BHWC))

    def tokens(self, images_BHWC: Tensor) -> Tensor:
        patches = F.avg_pool2d(images_BHWC.permute(0, 3, 1, 2).float() / 255 - 0.5, 4).flatten(1)
        return patches @ self.weight

    def texts(self, sentences: Sequence[str]) -> Tensor:
        return self._cut(torch.stack([self._text(sentence) for sentence in sentences]))

    def composed(
        self, tokens_BE: Tensor, instructions: Sequence[str], things: Sequence[str] | None = None
    ) -> Tensor:
        texts_BE = torch.stack([self._text(instruction) for instruction in instructions])
        return self._cut(tokens_BE * texts_BE.cos() + texts_BE)

    def _text(self, sentence: str) -> Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(sentence.encode()))
        return torch.randn(self.width, generator=generator)

    def _cut(self, state_BE: Tensor) -> Tensor:
        return F.normalize(state_BE[:, : self.size], dim=-1)


def noise(path: Path, seed: int) -> Path:
    """A picture of coloured noise, whose colours depend on the seed."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).resize((48, 36), Image.Resampling.NEAREST).save(path)
    return path


def pictures(folder: Path, count: int) -> list[Picture]:
    return [Picture(f"{n}.png", str(noise(folder / f"{n}.png", n))) for n in range(count)]


def triplets(root: Path, count: int = 9, **fields: Any) -> Path:
    """A folder of pictures and five triplets of two kinds; the last one's kind and words are HTML."""
    pictures(root, count)
    kinds = ["colour", "colour", "shape", "shape", "<b>&"]
    lines = [
        {
            "reference": f"{n}.png",
            "instruction": f"make it {word}",
            "target": [f"{n + 1}.png", f"{n + 3}.png"],
            "kind": kinds[n],
            **fields,
        }
        for n, word in enumerate(["red", "taller", "of wood", "round", "<script>alert('1')</script> & more"])
    ]
    (root / "triplets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root
