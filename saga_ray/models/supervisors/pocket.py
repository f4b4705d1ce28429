"""The pocket supervisor: a Llama-type language model of a few million parameters that reads image tokens
through a projector.

It is small enough to be trained on two cores (``saga supervisor train``) and to ship with the project, and
it keeps the paper's scheme: prompt [X_a, X_b, instruction], descriptions of both images, differences,
verdict. Its instruction is one trained token a style, since a model of this size cannot read instructions;
`saga_ray.prompts.template` has the text that it stands for.

Prompt: `<first>` X_a `<second>` X_b `<describe>` (or `<generic>`). The answer is described in
`_pocket_scheme`.

Legend: P pairs, G completions, N patch tokens of an image, D token width, H width of the language model, L
prompt length, T answer length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors._pocket_scheme import AnswerScheme
from saga_ray.models.supervisors._pocket_tokenizer import FIRST, IMAGE, INSTRUCTIONS, SECOND
from saga_ray.models.supervisors.base import EnginePrompt, Supervisor

FAMILY = "pocket"


class Projector(nn.Module):
    """Image tokens to the language model's width, with a position for each patch of each of the two
    images."""

    def __init__(self, token_width: int, hidden_size: int, tokens_per_image: int) -> None:
        super().__init__()
        self.linear = nn.Linear(token_width, hidden_size)
        self.norm = nn.RMSNorm(hidden_size, eps=1e-6)
        self.positions = nn.Parameter(torch.zeros(2, tokens_per_image, hidden_size))

    def forward(self, x_PND: Tensor, image: int) -> Tensor:
        """e_PNH of the tokens of image 0 (a) or 1 (b) of each pair."""
        projected_PNH: Tensor = self.norm(self.linear(x_PND)) + self.positions[image]
        return projected_PNH


class Pocket(Supervisor):
    """A pocket supervisor; `load` reads it from its folder."""

    family = FAMILY

    def __init__(
        self,
        folder: Path,
        name: str,
        scheme: AnswerScheme,
        tokenizer: PreTrainedTokenizerBase,
        language_model: LlamaForCausalLM,
        projector: Projector,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.name = name
        self.scheme = scheme
        self.tokenizer = tokenizer
        self.language_model = language_model
        self.projector = projector
        self.tokens_per_image = projector.positions.shape[1]
        self.token_width = projector.linear.in_features
        self.verdict_key = scheme.verdict_key
        self.eos_token_id = int(tokenizer.eos_token_id)
        self._first, self._second = self.token_id(FIRST), self.token_id(SECOND)
        self._instructions = {style: self.token_id(token) for style, token in INSTRUCTIONS.items()}
        self._openings = tuple(
            self.token_id(token)
            for token in (scheme.first_opening, scheme.second_opening, scheme.differences_opening)
        )
        self._verdicts = (self.token_id(scheme.verdicts[0]), self.token_id(scheme.verdicts[1]))
        describes_V = torch.zeros(language_model.config.vocab_size, dtype=torch.bool)
        describes_V[[self.token_id(token) for token in scheme.values()]] = True
        self._describes_V: Tensor
        self.register_buffer("_describes_V", describes_V, persistent=False)

    def token_id(self, token: str) -> int:
        """The id of a token that must be in the vocabulary."""
        index = self.tokenizer.convert_tokens_to_ids(token)
        assert isinstance(index, int) and index != self.tokenizer.unk_token_id, f"no token {token!r}"
        return index

    # The prompt

    def prompt_embeddings(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> Tensor:
        """e_PLH of `<first>` X_a `<second>` X_b instruction, differentiable in both images."""
        words = self.language_model.get_input_embeddings()
        marks = torch.tensor([self._first, self._second, self._instructions[style]], device=x_a_PND.device)
        marks_P3H = words(marks).expand(len(x_a_PND), -1, -1)
        a_PNH = self.projector(x_a_PND, 0).to(marks_P3H.dtype)
        b_PNH = self.projector(x_b_PND, 1).to(marks_P3H.dtype)
        return torch.cat([marks_P3H[:, :1], a_PNH, marks_P3H[:, 1:2], b_PNH, marks_P3H[:, 2:]], dim=1)

    @torch.no_grad()
    def engine_prompts(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> list[EnginePrompt]:
        """The same prompts, embedded, for engines fed by prompt embeddings."""
        embeds_PLH = self.prompt_embeddings(x_a_PND, x_b_PND, style).detach().cpu()
        ids = self.prompt_ids(style)
        return [EnginePrompt(list(ids), embeds_LH.clone(), None) for embeds_LH in embeds_PLH]

    def prompt_ids(self, style: str) -> list[int]:
        """The prompt's token ids, the placeholder at each of both images' tokens."""
        image = [self.token_id(IMAGE)] * self.tokens_per_image
        return [self._first, *image, self._second, *image, self._instructions[style]]

    def image_spans(self, style: str) -> tuple[slice, slice]:
        """Positions of both images' tokens in the prompt; the same for both styles."""
        size = self.tokens_per_image
        return slice(1, 1 + size), slice(2 + size, 2 + 2 * size)

    # As embedder of composed retrieval

    def embedding_layout(self, text: str, *, image: bool) -> tuple[list[int], list[int]]:
        """`<first>` X_a and the text; it has no chat template."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ([self._first] if image else []), ids

    def image_embeddings(self, x_BND: Tensor) -> Tensor:
        """See `Supervisor`: as image a of a pair."""
        e_BNH: Tensor = self.projector(x_BND, 0)
        return e_BNH

    def embedder_parameters(self) -> Iterator[nn.Parameter]:
        """The projector, and the words: a pocket supervisor has learned to write answers, not to read."""
        yield from self.projector.parameters()
        yield from self.language_model.get_input_embeddings().parameters()

    # The answer

    def answer_tokens(self, style: str) -> int:
        """See `Supervisor`."""
        return self.scheme.generic_length if style == "generic" else self.scheme.answer_length

    @property
    def verdict_token_ids(self) -> tuple[int, int]:
        """The tokens `"…":"yes"}` and `"…":"no"}`."""
        return self._verdicts

    def description_masks(self, tokens_GT: Tensor, mask_GT: Tensor) -> tuple[Tensor, Tensor]:
        """The attribute tokens between the openings; all false unless the three openings stand once each,
        in order, and nothing but attribute tokens between them."""
        is_opening_KGT = torch.stack([(tokens_GT == opening) & mask_GT for opening in self._openings])
        seen_KGT = is_opening_KGT.cumsum(-1)
        once_G = (seen_KGT[..., -1] == 1).all(0)
        at_KG = is_opening_KGT.int().argmax(-1)
        ordered_G = (at_KG[0] == 0) & (at_KG[0] < at_KG[1]) & (at_KG[1] < at_KG[2])
        in_a_GT = (seen_KGT[0] > 0) & (seen_KGT[1] == 0) & ~is_opening_KGT[0]
        in_b_GT = (seen_KGT[1] > 0) & (seen_KGT[2] == 0) & ~is_opening_KGT[1]
        describes_GT = self._describes_V[tokens_GT] & mask_GT
        clean_G = (describes_GT | ~(in_a_GT | in_b_GT)).all(-1)
        well_formed_G1 = (once_G & ordered_G & clean_G)[..., None]
        return in_a_GT & well_formed_G1, in_b_GT & well_formed_G1

    def verdict_positions(self, tokens_GT: Tensor, mask_GT: Tensor) -> Tensor:
        """Index of the first verdict token, -1 where there is none."""
        yes, no = self._verdicts
        is_verdict_GT = ((tokens_GT == yes) | (tokens_GT == no)) & mask_GT
        return torch.where(is_verdict_GT.any(-1), is_verdict_GT.int().argmax(-1), -1)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The answer as text."""
        text = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    # Folders

    def save(self, folder: Path, tower: towers.Tower) -> None:
        """Write everything that `load` needs into an existing folder: weights as float16, the tower's if they
        came so.

        Raises:
            UserError: a weight is too large for that.
        """
        model, projector = (self._halved(module) for module in (self.language_model, self.projector))
        config = LlamaConfig.from_dict(self.language_model.config.to_dict())
        config.dtype = torch.float16
        config.architectures = [type(self.language_model).__name__]
        language_model = folder / "language_model"
        config.save_pretrained(language_model)
        self.language_model.generation_config.save_pretrained(language_model)
        self.tokenizer.save_pretrained(language_model)
        # The format's name is what the Hugging Face loader asks for.
        weights = to_safetensors(model, metadata={"format": "pt"})
        (language_model / "model.safetensors").write_bytes(weights)
        (folder / "projector.safetensors").write_bytes(to_safetensors(projector))
        exact = all(torch.equal(value.half().to(value.dtype), value) for value in tower.state_dict().values())
        towers.save(tower, folder / "tower", torch.float16 if exact else torch.float32)
        self.describe(folder, {})

    def _halved(self, module: nn.Module) -> dict[str, Tensor]:
        state = {
            name: value.detach().to(torch.float16).contiguous() for name, value in module.state_dict().items()
        }
        if not all(bool(torch.isfinite(value).all()) for value in state.values()):
            raise UserError(
                f"the weights of {self.name} are not finite as float16, in which they are stored: its "
                "training has diverged; lower the learning rate"
            )
        return state

    def describe(self, folder: Path, numbers: dict[str, Any]) -> None:
        """Write `supervisor.json`: what `load` needs, and `numbers` about the supervisor."""
        description = {
            "family": FAMILY,
            "name": self.name,
            "item": self.scheme.item,
            "verdict_key": self.scheme.verdict_key,
            "attributes": {name: list(values) for name, values in self.scheme.attributes.items()},
            **numbers,
        }
        text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
        (folder / "supervisor.json").write_text(text, encoding="utf-8")


def load(folder: Path, precision: str) -> Pocket:
    """Read a pocket supervisor from its folder, frozen.

    Raises:
        UserError: the folder is not complete.
    """
    needed = (
        "supervisor.json",
        "projector.safetensors",
        "language_model/config.json",
        "tower/tower.safetensors",
    )
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"The supervisor in {folder} is not complete: {missing[0]} is missing; train or copy it again."
        )
    description = json.loads((folder / "supervisor.json").read_text(encoding="utf-8"))
    scheme = AnswerScheme(
        item=description["item"],
        verdict_key=description["verdict_key"],
        attributes={name: tuple(values) for name, values in description["attributes"].items()},
    )
    disable_progress_bar()  # type: ignore[no-untyped-call]
    language_model = LlamaForCausalLM.from_pretrained(
        folder / "language_model", dtype=getattr(torch, precision)
    )
    weights = {name: value.float() for name, value in load_file(folder / "projector.safetensors").items()}
    hidden_size, token_width = weights["linear.weight"].shape
    projector = Projector(token_width, hidden_size, weights["positions"].shape[1])
    projector.load_state_dict(weights)
    tokenizer = AutoTokenizer.from_pretrained(folder / "language_model")
    supervisor = Pocket(folder, description["name"], scheme, tokenizer, language_model, projector)
    supervisor.freeze()
    return supervisor
