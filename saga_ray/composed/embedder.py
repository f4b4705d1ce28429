"""An MLLM as the embedder of images, texts, and image + instruction (InstructCIR, arXiv 2412.05756).

The embedding is the language model's last hidden state at the prompt's last position, L2-normalised. The
model is a supervisor's: its vision tower and projector, and its language model, of which LoRA adapters are
trained and merged after each stage.

Legend: B prompts, N patch tokens of an image, D token width, H width of the language model, L length of the
longest prompt, E embedding size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from saga_ray.composed.identity import CONFIG, HEAD, MODEL
from saga_ray.errors import UserError
from saga_ray.losses.precision import full_precision
from saga_ray.models import supervisors
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.prompts import composed as prompts

if TYPE_CHECKING:
    from peft import PeftModel


SHOWN = 60
"""Characters of a prompt that a message shows."""


class Embedder(nn.Module):
    """Embeddings z_BE of images, texts and composed queries.

    `width`: E of a linear map after the hidden state; none: no map, E = H.
    `end`: whether an end-of-sequence token is appended, at whose position the state is read. The released
    evaluation appends none, other code of the author does; the same must hold in training and evaluation.
    """

    def __init__(
        self, supervisor: Supervisor, *, width: int | None = None, end: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.supervisor = supervisor
        self.tower = supervisor.build_tower().eval().requires_grad_(False)
        self.head = None if width is None else nn.Linear(supervisor.hidden_size, width, bias=False)
        if self.head is not None:
            generator = torch.Generator().manual_seed(seed)
            nn.init.orthogonal_(self.head.weight, generator=generator)
            self.head.requires_grad_(False)
        self.width = width or supervisor.hidden_size
        self.size = self.width
        """The first so many numbers of an embedding are kept (Matryoshka truncation); all, unless set."""
        self.end = end
        self._adapted: PeftModel | None
        object.__setattr__(self, "_adapted", None)

    @property
    def image_size(self) -> int:
        """Pictures are so many pixels square."""
        return self.tower.image_size

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.supervisor.language_model.device

    def forward(self, images_BHWC: Tensor, things: Sequence[str] | None = None) -> Tensor:
        """z_BE of uint8 RGB pictures: what a gallery is embedded with."""
        return self.images(self.tokens(images_BHWC), things)

    def tokens(self, images_BHWC: Tensor) -> Tensor:
        """The frozen tower's tokens x_BND of uint8 RGB pictures; they never change, so they can be kept."""
        with torch.no_grad():
            x_BND: Tensor = self.tower(images_BHWC)
        return x_BND

    def images(self, x_BND: Tensor, things: Sequence[str] | None = None) -> Tensor:
        """z_BE of images, from their tokens; `things` name what each shows, where the prompt is to say it."""
        return self._embed([prompts.image(thing) for thing in things or [""] * len(x_BND)], x_BND)

    def texts(self, sentences: Sequence[str]) -> Tensor:
        """z_BE of texts."""
        return self._embed([prompts.text(sentence) for sentence in sentences], None)

    def composed(
        self, x_BND: Tensor, instructions: Sequence[str], things: Sequence[str] | None = None
    ) -> Tensor:
        """z_BE of queries: reference images, from their tokens, each with its instruction."""
        named = zip(instructions, things or [""] * len(x_BND), strict=True)
        return self._embed([prompts.composed(instruction, thing) for instruction, thing in named], x_BND)

    def _embed(self, texts: Sequence[str], x_BND: Tensor | None) -> Tensor:
        state_BE = full_precision(self.last_hidden(texts, x_BND))
        if self.head is not None:
            state_BE = self.head(state_BE)
        return truncated(state_BE, self.size)

    def last_hidden(self, texts: Sequence[str], x_BND: Tensor | None) -> Tensor:
        """h_BH at the last position of each prompt; prompts are padded on the left, so it is the last of
        all."""
        supervisor = self.supervisor
        ids = [supervisor.embedding_layout(text, image=x_BND is not None) for text in texts]
        image_BNH = None if x_BND is None else supervisor.image_embeddings(x_BND)
        device = supervisor.language_model.device
        sequences: list[Tensor] = []
        spans: list[list[slice]] = [[] for _ in ids]
        for row, (before, after) in enumerate(ids):
            after = [*after, supervisor.eos_token_id] if self.end else after
            words_TH = supervisor.prompt_words(torch.tensor([*before, *after], device=device))
            if image_BNH is None:
                sequences.append(words_TH)
                continue
            parts = [words_TH[: len(before)], image_BNH[row].to(words_TH.dtype), words_TH[len(before) :]]
            sequences.append(torch.cat(parts))
            spans[row].append(slice(len(before), len(before) + image_BNH.shape[1]))
        longest = max(len(sequence) for sequence in sequences)
        self._require_room(texts, [len(sequence) for sequence in sequences])
        embeddings_BLH = torch.stack(
            [F.pad(sequence, (0, 0, longest - len(sequence), 0)) for sequence in sequences]
        )
        first_B1 = torch.tensor([[longest - len(sequence)] for sequence in sequences], device=device)
        positions = [
            F.pad(supervisor.positions(images, len(sequence)), (longest - len(sequence), 0))
            for images, sequence in zip(spans, sequences, strict=True)
        ]
        hidden_BLH = supervisor.hidden_states(
            embeddings_BLH,
            torch.stack(positions, dim=-2),
            attention_mask=(torch.arange(longest, device=device) >= first_B1).long(),
        )
        return hidden_BLH[:, -1]

    def require_room(self, *, texts: Sequence[str] = (), instructions: Sequence[str] = ()) -> None:
        """Raises UserError for a text, or an instruction with its image, that the context cannot hold."""
        for asked, image in (
            ([prompts.text(each) for each in texts], False),
            ([prompts.composed(each) for each in instructions], True),
        ):
            self._require_room(asked, [self.length(each, image=image) for each in asked])

    @property
    def context(self) -> int:
        """Positions that the language model reads at most."""
        return int(self.supervisor.language_model.config.get_text_config().max_position_embeddings)

    def length(self, text: str, *, image: bool) -> int:
        """Positions of a prompt, with its image, if any; `text` is all of the prompt, see `prompts`."""
        before, after = self.supervisor.embedding_layout(text, image=image)
        return len(before) + len(after) + self.end + (self.supervisor.tokens_per_image if image else 0)

    def _require_room(self, texts: Sequence[str], lengths: Sequence[int]) -> None:
        most = self.context
        for text, length in zip(texts, lengths, strict=True):
            if length > most:
                raise UserError(
                    f"the prompt {text[:SHOWN]!r}… has {length:,} tokens with its image, if any, and "
                    f"{self.supervisor.name} reads {most:,} at most: shorten the caption or instruction"
                )

    # Training

    def train(self, mode: bool = True) -> Embedder:
        """Training mode is the adapters' alone: their dropout."""
        super().train(False)
        if self._adapted is not None:
            self._adapted.train(mode)
        return self

    def adapt(self, *, rank: int, alpha: int, dropout: float, seed: int) -> None:
        """Put fresh LoRA adapters on all linear maps of the language model's layers, and let them train
        beside what the family names.
        """
        from peft import LoraConfig, get_peft_model

        assert self._adapted is None, "adapters are there already: merge them first"
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapted = get_peft_model(self.supervisor.language_model, config)
        object.__setattr__(self, "_adapted", adapted)  # no module of its own: it is the language model
        for parameter in (*self.supervisor.embedder_parameters(), *self._head_parameters()):
            parameter.requires_grad_(True)

    def merge(self) -> None:
        """Add the adapters to the weights that they adapt, and take them away."""
        assert self._adapted is not None, "there are no adapters"
        merged = self._adapted.merge_and_unload()
        assert merged is self.supervisor.language_model
        object.__setattr__(self, "_adapted", None)
        self.requires_grad_(False)

    def trained(self) -> Iterator[nn.Parameter]:
        """The parameters that train."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def _head_parameters(self) -> Iterator[nn.Parameter]:
        return iter(()) if self.head is None else self.head.parameters()

    # Folders

    def save(self, folder: Path) -> None:
        """Write everything that `load` needs into a folder that does not exist yet."""
        assert self._adapted is None, "merge the adapters first"
        model = folder / MODEL
        model.mkdir(parents=True)
        self.supervisor.save(model, self.tower)
        if self.head is not None:
            (folder / HEAD).write_bytes(to_safetensors(dict(self.head.state_dict())))
        config = {
            "width": None if self.head is None else self.width,
            "size": self.size,
            "end": self.end,
            "precision": str(self.supervisor.language_model.dtype).removeprefix("torch."),
        }
        (folder / CONFIG).write_text(json.dumps(config) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Embedder:
        """An embedder that `save` has written, in the precision it had then. Raises UserError where there is
        none."""
        if not (folder / CONFIG).is_file():
            raise UserError(f"{folder} holds no embedder of composed retrieval: {CONFIG} is missing")
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        supervisor = supervisors.load(folder / MODEL, config["precision"])
        embedder = cls(supervisor, width=config["width"], end=config["end"])
        if embedder.head is not None:
            embedder.head.load_state_dict(load_file(folder / HEAD))
        embedder.size = config["size"]
        return embedder


def truncated(state_BE: Tensor, size: int) -> Tensor:
    """The first `size` numbers of embeddings, L2-normalised."""
    z_BE: Tensor = F.normalize(state_BE[:, :size], dim=-1)
    return z_BE
