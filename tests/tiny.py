"""A supervisor of a few thousand weights that answers by a small grammar, and a tower to match.
Deterministic; no files needed.

Pictures are 16 pixels square and have 4 tokens of width 8. The prompt is ``<image>``x4 ``<image>``x4
``<describe>`` (9 tokens, or ``<compare>`` for the generic style), the answer 6 words and ``<eos>``
(generic: 2 words): colour and size of item 1, of item 2, differences, verdict. The language model is a
random Llama whose head is set so that a word is nearly always followed by one that the grammar allows,
while which one depends on the pictures: about 95 % of the answers are well formed, verdicts vary within a
group.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from saga_ray.models import towers
from saga_ray.models.supervisors.base import EnginePrompt, Supervisor
from saga_ray.models.towers import Tower

PIXELS, TOKENS, TOKEN_WIDTH, WIDTH, LAYERS = 16, 4, 8, 32, 2
GRAMMAR: dict[str, list[str]] = {
    "special": ["<pad>", "<eos>", "<image>"],
    "describe": ["<describe>"],
    "compare": ["<compare>"],
    "colour_1": [f'"item_1": {{"colour": "{word}"' for word in ("red", "green", "blue")],
    "size_1": [f', "size": "{word}"}}, ' for word in ("small", "large")],
    "colour_2": [f'"item_2": {{"colour": "{word}"' for word in ("red", "green", "blue")],
    "size_2": [f', "size": "{word}"}}, \n' for word in ("small", "large")],
    "differences": [f'"differences": "{word}", ' for word in ("none", "colour")],
    "verdict": [f'"same": "{word}"}}' for word in ("yes", "no")],
    "end": ["<eos>"],
}
NEXT = {
    "describe": "colour_1",
    "colour_1": "size_1",
    "size_1": "colour_2",
    "colour_2": "size_2",
    "size_2": "differences",
    "compare": "differences",
    "differences": "verdict",
    "verdict": "end",
}
VOCABULARY = list(dict.fromkeys(word for words in GRAMMAR.values() for word in words))
IDS = {kind: [VOCABULARY.index(word) for word in words] for kind, words in GRAMMAR.items()}
PAD, EOS, IMAGE = IDS["special"]


class TinyTower(Tower):
    """One linear map of each 8x8 patch."""

    name = "tests.tiny"
    image_size = PIXELS
    tokens_per_image = TOKENS
    token_width = TOKEN_WIDTH

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(TOKEN_WIDTH, 8 * 8 * 3, generator=generator) / 14)
        self.bias = nn.Parameter(torch.zeros(TOKEN_WIDTH))

    def forward(self, images_BHWC: Tensor) -> Tensor:
        pixels = images_BHWC.to(self.weight.dtype) / 128 - 1
        patches = (
            pixels.unflatten(1, (2, 8))
            .unflatten(3, (2, 8))
            .permute(0, 1, 3, 2, 4, 5)
            .flatten(3)
            .flatten(1, 2)
        )
        return nn.functional.linear(patches, self.weight, self.bias)

    def config(self) -> dict[str, int]:
        return {"seed": self.seed}


def build(seed: int = 0) -> TinyTower:
    """What ``towers.build("tests.tiny", ...)`` calls."""
    return TinyTower(seed)


class TinySupervisor(Supervisor):
    """See the module."""

    family = "tests.tiny"
    name = "tiny"
    tokens_per_image = TOKENS
    token_width = TOKEN_WIDTH
    verdict_key = "same"
    eos_token_id = EOS

    def __init__(self, folder: Path, language_model: PreTrainedModel) -> None:
        super().__init__()
        self.folder = folder
        self.language_model = language_model
        self.tokenizer = _tokenizer()
        generator = torch.Generator().manual_seed(7)
        self.projection = nn.Parameter(
            torch.randn(WIDTH, TOKEN_WIDTH, generator=generator).to(language_model.dtype)
        )
        self.freeze()

    def build_tower(self) -> TinyTower:
        return TinyTower()

    def prompt_embeddings(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> Tensor:
        x_PSD = torch.cat([x_a_PND, x_b_PND], dim=1).to(self.projection.dtype)
        instruction_1 = torch.tensor([self._instruction(style)], device=x_PSD.device)
        instruction_P1H = self.answer_embeddings(instruction_1).expand(len(x_PSD), 1, WIDTH)
        return torch.cat([x_PSD @ self.projection.T, instruction_P1H], dim=1)

    @torch.no_grad()
    def engine_prompts(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> list[EnginePrompt]:
        token_ids = [IMAGE] * 2 * TOKENS + [self._instruction(style)]
        embeddings_PLH = self.prompt_embeddings(x_a_PND, x_b_PND, style).cpu()
        return [EnginePrompt(token_ids, embeds_LH.clone(), None) for embeds_LH in embeddings_PLH]

    def image_spans(self, style: str) -> tuple[slice, slice]:
        return slice(0, TOKENS), slice(TOKENS, 2 * TOKENS)

    def embedding_layout(self, text: str, *, image: bool) -> tuple[list[int], list[int]]:
        return [], [IDS["describe"][0]]

    def image_embeddings(self, x_BND: Tensor) -> Tensor:
        return x_BND.to(self.projection.dtype) @ self.projection.T

    def embedder_parameters(self) -> Iterator[nn.Parameter]:
        yield self.projection

    def answer_tokens(self, style: str) -> int:
        return 7

    @property
    def verdict_token_ids(self) -> tuple[int, int]:
        yes, no = IDS["verdict"]
        return yes, no

    def description_masks(self, tokens_GT: Tensor, mask_GT: Tensor) -> tuple[Tensor, Tensor]:
        whole_G1 = torch.tensor(
            [[self._well_formed(row[keep].tolist())] for row, keep in zip(tokens_GT, mask_GT, strict=True)],
            device=tokens_GT.device,
        )
        a_GT = _among(tokens_GT, "colour_1", "size_1") & mask_GT & whole_G1
        b_GT = _among(tokens_GT, "colour_2", "size_2") & mask_GT & whole_G1
        return a_GT, b_GT

    def verdict_positions(self, tokens_GT: Tensor, mask_GT: Tensor) -> Tensor:
        verdict_GT = _among(tokens_GT, "verdict") & mask_GT
        first_G = verdict_GT.int().argmax(1)
        return torch.where(verdict_GT.any(1), first_G, torch.full_like(first_G, -1))

    def decode(self, token_ids: Sequence[int]) -> str:
        return "{" + "".join(VOCABULARY[token] for token in token_ids if token not in (PAD, EOS))

    def save(self, folder: Path, tower: towers.Tower | None = None) -> None:
        """Lay the supervisor out as those that ship: ``supervisor.json``, ``language_model/``, ``tower/``."""
        self.language_model.save_pretrained(folder / "language_model")
        self.tokenizer.save_pretrained(folder / "language_model")
        towers.save(tower or self.build_tower(), folder / "tower")
        (folder / "supervisor.json").write_text(json.dumps({"family": self.family, "name": self.name}))
        self.folder = folder

    def _instruction(self, style: str) -> int:
        return IDS["describe" if style == "attributes" else "compare"][0]

    def _well_formed(self, token_ids: Sequence[int]) -> bool:
        try:
            return {"item_1", "item_2", "same"} <= set(json.loads(self.decode(token_ids)))
        except json.JSONDecodeError:
            return False


def tiny_supervisor(
    folder: Path | None = None, dtype: torch.dtype = torch.float32, layers: int = LAYERS
) -> TinySupervisor:
    """The tiny supervisor, always the same one; saved as one that ships where a folder is given."""
    language_model = _language_model(layers).to(dtype)
    if dtype == torch.float64:
        _exact_norms(language_model)
    supervisor = TinySupervisor(folder or Path("unsaved"), language_model)
    if folder is not None:
        supervisor.save(folder)
    return supervisor


def load(folder: Path, precision: str = "float32") -> TinySupervisor:
    """The tiny supervisor saved in a folder."""
    language_model = LlamaForCausalLM.from_pretrained(
        folder / "language_model", dtype=getattr(torch, precision)
    )
    return TinySupervisor(folder, language_model)


def tiny_images(count: int, seed: int = 0) -> Tensor:
    """Random pictures, uint8 BHWC."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, PIXELS, PIXELS, 3), dtype=torch.uint8, generator=generator)


def _language_model(layers: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,  # the narrowest that vLLM computes on a CPU
        max_position_embeddings=64,
        rope_theta=1000.0,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=EOS,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, 0.25, generator=generator)
            else:
                assert "norm" in name
        # The first dimensions hold the current word alone and say what may follow it; layers write into the
        # others only, and those say which of the allowed words does.
        words = len(VOCABULARY)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[:words] = 0
            layer.mlp.down_proj.weight[:words] = 0
        embeddings_VH = model.get_input_embeddings().weight
        embeddings_VH[:, :words] = 3 * torch.eye(words)
        head_VH = model.get_output_embeddings().weight
        head_VH[:, :words] = 0
        head_VH[PAD] = 0
        for kind, following in NEXT.items():
            for before in IDS[kind]:
                head_VH[IDS[following], before] = 6.0
    return model


def _exact_norms(module: nn.Module) -> None:
    """Llama's norm rounds to float32 whatever its weights are; torch's does not."""
    for name, child in module.named_children():
        if isinstance(child, LlamaRMSNorm):
            exact = nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon, dtype=child.weight.dtype)
            exact.load_state_dict(child.state_dict())
            setattr(module, name, exact)
        else:
            _exact_norms(child)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="<pad>", eos_token="<eos>")


def _among(tokens: Tensor, *kinds: str) -> Tensor:
    return torch.isin(tokens, torch.tensor([i for kind in kinds for i in IDS[kind]], device=tokens.device))
