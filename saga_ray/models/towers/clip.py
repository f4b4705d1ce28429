"""The vision transformers of CLIP (Radford et al., arXiv 2103.00020) and SigLIP (Zhai et al., arXiv
2303.15343) as a tower: patch tokens of one layer.

Plain torch, so that an encoder made of it needs no transformers; weights are named as in transformers'
CLIPVisionModel and SiglipVisionModel, and tokens are equal to theirs. Only the layers up to the one whose
tokens are read are there: LLaVA reads the layer before last, so of CLIP ViT-L/14's 24 layers `layers` = 23.
What stands after that layer (CLIP's and SigLIP's last norm, SigLIP's pooling) is left out, and CLIP's class
token is dropped from the tokens after it has been attended to.

Legend: B images, H height, W width, C channels, N patch tokens, T tokens with the class token, D token width,
h heads, d width of a head.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from saga_ray.models.towers.base import Tower

Kind = Literal["clip", "siglip"]
# The processors' own numbers: OpenAI's for CLIP, a half for SigLIP.
MEAN = {"clip": (0.48145466, 0.4578275, 0.40821073), "siglip": (0.5, 0.5, 0.5)}
DEVIATION = {"clip": (0.26862954, 0.26130258, 0.27577711), "siglip": (0.5, 0.5, 0.5)}
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_pytorch_tanh")


class Embeddings(nn.Module):
    """Patches and their positions; CLIP's class token before them."""

    def __init__(self, kind: Kind, patches: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, width, patch_size, patch_size, bias=kind == "siglip")
        self.class_embedding = nn.Parameter(torch.randn(width) / width**0.5) if kind == "clip" else None
        self.position_embedding = nn.Embedding(patches + (kind == "clip"), width)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """x_BTD before the first layer."""
        x_BTD: Tensor = self.patch_embedding(pixels_BCHW).flatten(2).transpose(1, 2)
        if self.class_embedding is not None:
            x_BTD = torch.cat([self.class_embedding.expand(len(x_BTD), 1, -1).to(x_BTD.dtype), x_BTD], dim=1)
        return x_BTD + self.position_embedding.weight


class Attention(nn.Module):
    """Every token attends to all of its picture."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """One attention."""
        query_BhTd, key_BhTd, value_BhTd = (
            project(x_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen_BhTd = functional.scaled_dot_product_attention(query_BhTd, key_BhTd, value_BhTd)
        attended_BTD: Tensor = self.out_proj(seen_BhTd.transpose(1, 2).flatten(2))
        return attended_BTD


class Perceptron(nn.Module):
    """Two linear maps and an activation between them."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Each token by itself."""
        wide = self.fc1(x_BTD)
        if self.activation == "quick_gelu":
            wide = wide * torch.sigmoid(1.702 * wide)
        else:
            wide = functional.gelu(wide, approximate="none" if self.activation == "gelu" else "tanh")
        mapped_BTD: Tensor = self.fc2(wide)
        return mapped_BTD


class Layer(nn.Module):
    """Attention and perceptron, each after a norm and added to its input."""

    def __init__(self, width: int, hidden: int, heads: int, activation: str, epsilon: float) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = (nn.LayerNorm(width, eps=epsilon) for _ in range(2))
        self.self_attn = Attention(width, heads)
        self.mlp = Perceptron(width, hidden, activation)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """One layer."""
        x_BTD = x_BTD + self.self_attn(self.layer_norm1(x_BTD))
        x_BTD = x_BTD + self.mlp(self.layer_norm2(x_BTD))
        return x_BTD


class Encoder(nn.Module):
    """The layers, named as in transformers."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Clip(Tower):
    """See the module."""

    name = "clip"

    def __init__(
        self,
        kind: Kind,
        image_size: int,
        patch_size: int,
        width: int,
        hidden: int,
        layers: int,
        heads: int,
        activation: str,
        epsilon: float,
    ) -> None:
        super().__init__()
        assert kind in MEAN and activation in ACTIVATIONS
        self.kind = kind
        self.image_size, self.patch_size = image_size, patch_size
        self.tokens_per_image = (image_size // patch_size) ** 2
        self.token_width = width
        self._rest = {"hidden": hidden, "layers": layers, "heads": heads}
        self.activation, self.epsilon = activation, epsilon
        self.embeddings = Embeddings(kind, self.tokens_per_image, patch_size, width)
        self.pre_layrnorm = nn.LayerNorm(width, eps=epsilon) if kind == "clip" else nn.Identity()
        self.encoder = Encoder([Layer(width, hidden, heads, activation, epsilon) for _ in range(layers)])
        self._mean: Tensor
        self._deviation: Tensor
        self.register_buffer("_mean", torch.tensor(MEAN[kind]), persistent=False)
        self.register_buffer("_deviation", torch.tensor(DEVIATION[kind]), persistent=False)

    def pixels(self, images_BHWC: Tensor) -> Tensor:
        """Normalised as the model's own processor does it: pixels_BCHW."""
        assert images_BHWC.dtype == torch.uint8, (
            f"the tower normalises uint8 pictures itself, got {images_BHWC.dtype}"
        )
        pixels_BHWC = (images_BHWC.to(self._mean.dtype) / 255 - self._mean) / self._deviation
        return pixels_BHWC.permute(0, 3, 1, 2)

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Tokens x_BND of uint8 RGB pictures."""
        return self.encode(self.pixels(images_BHWC))

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Tokens x_BND of pictures that are normalised already."""
        x_BTD: Tensor = self.pre_layrnorm(self.embeddings(pixels_BCHW))
        for layer in self.encoder.layers:
            x_BTD = layer(x_BTD)
        return x_BTD[:, 1:] if self.kind == "clip" else x_BTD

    def config(self) -> dict[str, int | float | str]:
        """Arguments of ``build``."""
        return {
            "kind": self.kind,
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "width": self.token_width,
            **self._rest,
            "activation": self.activation,
            "epsilon": self.epsilon,
        }


def build(
    kind: Kind,
    image_size: int,
    patch_size: int,
    width: int,
    hidden: int,
    layers: int,
    heads: int,
    activation: str,
    epsilon: float,
) -> Clip:
    """The tower with random weights.

    Args:
        kind: whose embeddings and normalisation.
        image_size: side of the pictures, in pixels.
        patch_size: side of a patch; a rest at the right and bottom is not read.
        width: D.
        hidden: width between a layer's two linear maps.
        layers: how many are applied before the tokens are read.
        heads: of each layer.
        activation: one of `ACTIVATIONS`.
        epsilon: of the norms.
    """
    return Clip(kind, image_size, patch_size, width, hidden, layers, heads, activation, epsilon)
