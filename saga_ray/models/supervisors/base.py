"""What every frozen supervisor can do, whichever family of multimodal language models it comes from.

A family (one file beside this one) says how its prompt is laid out, how its answers are read, and, where it
differs from a plain decoder, how its language model is called. Rollouts and replay need nothing else of it.

Legend of the shape suffixes: P pairs, G completions of a pair, N patch tokens of an image, D token width, L
prompt length, T answer length, S sequence length, H width of the language model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from saga_ray.models import towers

if TYPE_CHECKING:  # to import it takes 8 seconds, also in workers whose arm has no rollouts
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class EnginePrompt:
    """One pair's prompt as a rollout engine is sent it: plain data on the CPU, without gradient.

    ``token_ids`` always has the prompt's length: text, with the family's placeholder ids where image tokens
    stand. Exactly one of the two tensors is given: ``embeds_LH`` (the whole prompt, for engines fed by
    prompt embeddings) or ``image_embeds_ND`` (the two images' tokens one after the other, N counting both,
    for engines that build the prompt themselves).
    """

    token_ids: list[int]
    embeds_LH: Tensor | None
    image_embeds_ND: Tensor | None

    def __post_init__(self) -> None:
        assert (self.embeds_LH is None) != (self.image_embeds_ND is None), (
            "one kind of embedding, not both or neither"
        )


class Supervisor(nn.Module, ABC):
    """A frozen multimodal language model p_psi (paper section 3): reads two images' tokens, writes an answer.

    It never trains: ``freeze`` stops the gradient at every parameter and sets evaluation mode, while gradient
    still flows *through* it into the image tokens.
    """

    folder: Path
    """The supervisor's folder: ``language_model/`` in the ordinary Hugging Face layout, ``tower/``, and the
    family's own files."""
    family: str
    """Name of the file in ``saga_ray/models/supervisors`` that reads it."""
    name: str
    tokenizer: PreTrainedTokenizerBase
    tokens_per_image: int
    """N."""
    token_width: int
    """D."""
    verdict_key: str
    """Key of the answer's yes/no verdict, for example ``same_species``."""
    eos_token_id: int
    images_attend_both_ways: bool = False
    """Tokens of one image attend to each other, also to later ones; else all attention is causal."""
    image_token_id: int | None = None
    """Where given, engine prompts hold images' tokens, and this placeholder in their token ids; else they are
    embedded whole."""
    language_model: PreTrainedModel

    def freeze(self) -> None:
        """Make every weight constant. Families call it at the end of loading."""
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Supervisor:
        """Stay in evaluation mode: a supervisor has none other."""
        super().train(False)
        return self

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.language_model.config.get_text_config().hidden_size)

    @property
    def layers(self) -> int:
        """How many layers the language model has; the one that teaches attention is chosen among them,
        counted from 0."""
        return int(self.language_model.config.get_text_config().num_hidden_layers)

    def build_tower(self) -> towers.Tower:
        """A fresh trainable copy of this supervisor's own tower, with which every encoder starts."""
        return towers.load(self.folder / "tower")

    @abstractmethod
    def save(self, folder: Path, tower: towers.Tower) -> None:
        """Write everything that `load` needs into an existing folder, this tower with it."""

    # The prompt

    @abstractmethod
    def prompt_embeddings(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> Tensor:
        """The prompt [X_a, X_b, instruction] (paper Eq. 1) as e_PLH in the language model's precision,
        differentiable in both images."""

    @abstractmethod
    def engine_prompts(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> list[EnginePrompt]:
        """The same P prompts for a rollout engine."""

    def engine_sequence(self, prompt: EnginePrompt) -> tuple[Tensor, tuple[slice, ...]]:
        """An engine's prompt as the language model reads it, e_LH, and where images' tokens stand in it, for
        `positions`."""
        assert prompt.embeds_LH is not None, "a family that sends images' tokens reads them itself"
        return prompt.embeds_LH, ()

    def engine_image_fields(self) -> dict[str, Tensor]:
        """What vLLM's model of this family is told of each image beside its tokens, by its names."""
        return {}

    @abstractmethod
    def image_spans(self, style: str) -> tuple[slice, slice]:
        """Where image a's and image b's N tokens stand in the prompt's L positions."""

    # As embedder of composed retrieval

    @abstractmethod
    def embedding_layout(self, text: str, *, image: bool) -> tuple[list[int], list[int]]:
        """The token ids before and after the image of a prompt to embed, the family's chat template
        included; without an image all ids stand after."""

    @abstractmethod
    def image_embeddings(self, x_BND: Tensor) -> Tensor:
        """e_BNH: image tokens as the language model reads them in such a prompt."""

    @abstractmethod
    def embedder_parameters(self) -> Iterator[nn.Parameter]:
        """What trains beside the language model's adapters."""

    # The language model

    @property
    def decoder(self) -> PreTrainedModel:
        """The language model's layers without its head: what `hidden_states` calls, and where replay plugs in
        its attention."""
        whole: Any = self.language_model
        decoder: PreTrainedModel = whole.base_model
        return decoder

    def answer_embeddings(self, tokens_BT: Tensor) -> Tensor:
        """Words as the language model reads them: e_BTH.

        Families whose language model reads more at an image than a token of width H (DeepStack) return
        wider embeddings, here and wherever H stands for what is read.
        """
        embeddings_BTH: Tensor = self.language_model.get_input_embeddings()(tokens_BT)
        return embeddings_BTH

    def prompt_words(self, tokens_BT: Tensor) -> Tensor:
        """What stands in a prompt beside the images' tokens, as the language model reads it: e_BTH."""
        return self.answer_embeddings(tokens_BT)

    def positions(self, images: Sequence[slice], length: int) -> Tensor:
        """Rotary positions of ``length`` tokens, with images' tokens at ``images``: long, sequence last.

        A plain decoder counts 0, 1, 2. Families with positions in time, height and width return three rows;
        those whose images attend both ways, a second one that tells images apart.
        """
        return torch.arange(length, device=self.language_model.device)

    def hidden_states(self, embeddings_BSH: Tensor, positions: Tensor, **attention: Any) -> Tensor:
        """The language model without its head: h_BSH after the last norm. ``attention`` goes to the model and
        its attention function as it is; ``past_key_values`` among it is a cache, read and extended."""
        outputs = self.decoder(
            inputs_embeds=embeddings_BSH, position_ids=positions, use_cache=False, **attention
        )
        hidden_BSH: Tensor = outputs.last_hidden_state
        return hidden_BSH

    def logits(self, hidden_KH: Tensor) -> Tensor:
        """The head: logits over the vocabulary at each of K positions."""
        head: nn.Module = self.language_model.get_output_embeddings()  # type: ignore[no-untyped-call]
        logits_KV: Tensor = head(hidden_KH)
        return logits_KV

    # The answer

    @abstractmethod
    def answer_tokens(self, style: str) -> int:
        """Tokens of a complete answer, its end included; the fewest, where the family writes freely."""

    @property
    @abstractmethod
    def verdict_token_ids(self) -> tuple[int, int]:
        """The token that says yes (same) and the one that says no, as they follow the verdict's key."""

    @abstractmethod
    def description_masks(self, tokens_GT: Tensor, mask_GT: Tensor) -> tuple[Tensor, Tensor]:
        """Which generated tokens describe image a, and which image b: two bool tensors (G, T), all false
        where the answer is malformed."""

    @abstractmethod
    def verdict_positions(self, tokens_GT: Tensor, mask_GT: Tensor) -> Tensor:
        """Index of the generated verdict token, long (G,); -1 where the answer has none."""

    @abstractmethod
    def decode(self, token_ids: Sequence[int]) -> str:
        """The answer as text; passes ``json.loads`` when it is well formed."""
