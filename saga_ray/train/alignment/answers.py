"""True answers and sampled ones, as token ids.

Legend: P pairs, A attributes, S rows of a table, T answer length, L prompt length, H width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from saga_ray.models.supervisors._pocket_scheme import NAMED_DIFFERENCES
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.models.supervisors.pocket import Pocket
from saga_ray.train.alignment.pairs import Pairs

Slots = Sequence[range]
"""For each token of an answer the ids that may stand there."""


class AnswerKey:
    """The true answer about any pair of a table's rows."""

    def __init__(self, supervisor: Pocket, attributes: dict[str, list[str]]) -> None:
        """`attributes`: a value for every row of the table; every value must be one of the scheme's."""
        self.supervisor = supervisor
        scheme = supervisor.scheme
        names = list(scheme.attributes)
        self.values_SA = torch.tensor(
            [[supervisor.token_id(scheme.value(name, value)) for value in attributes[name]] for name in names]
        ).T
        blank = dict.fromkeys(names, "")
        self._summary = torch.zeros((len(names) + 1,) * NAMED_DIFFERENCES, dtype=torch.long)
        for first in range(len(names) + 1):
            for second in range(len(names) + 1):
                differing = {names[i]: "x" for i in (first, second) if i < len(names)}
                token = scheme.differences(blank, blank | differing)
                self._summary[first, second] = supervisor.token_id(token)

    def slots(self, style: str) -> list[range]:
        """Which ids may stand at each place of an answer of this style, the end token's last."""
        scheme, of = self.supervisor.scheme, self.supervisor.token_id
        described = [
            _range([of(scheme.value(name, v)) for v in values]) for name, values in scheme.attributes.items()
        ]
        summed = [
            _range([of(token) for token in scheme.summaries()]),
            _range([of(token) for token in scheme.verdicts]),
            _range([self.supervisor.eos_token_id]),
        ]
        if style == "generic":
            return [_range([of(scheme.generic_opening)]), *summed]
        openings = [
            _range([of(token)])
            for token in (scheme.first_opening, scheme.second_opening, scheme.differences_opening)
        ]
        return [openings[0], *described, openings[1], *described, openings[2], *summed]

    def answers(self, pairs: Pairs, style: str) -> Tensor:
        """The true answers, tokens_PT with the end token; all of one style are equally long."""
        a_PA, b_PA = self.values_SA[torch.from_numpy(pairs.a)], self.values_SA[torch.from_numpy(pairs.b)]
        yes, no = self.supervisor.verdict_token_ids
        same_P = torch.from_numpy(pairs.same)
        pieces = {
            "summary": self._summaries(a_PA != b_PA)[:, None],
            "verdict": torch.where(same_P, yes, no)[:, None],
        }
        slots = self.slots(style)
        described = len(self.supervisor.scheme.attributes)
        tokens_PT = torch.tensor([slot.start for slot in slots]).repeat(len(pairs), 1)
        tokens_PT[:, -3:-2], tokens_PT[:, -2:-1] = pieces["summary"], pieces["verdict"]
        if style != "generic":
            tokens_PT[:, 1 : 1 + described] = a_PA
            tokens_PT[:, 2 + described : 2 + 2 * described] = b_PA
        return tokens_PT

    def _summaries(self, differs_PA: Tensor) -> Tensor:
        """The summary's id for each pair: the first attributes that differ, the attribute count standing
        for none."""
        count = differs_PA.shape[1]
        index_PA = torch.where(differs_PA, torch.arange(count), count).sort(dim=1).values
        padded = torch.nn.functional.pad(index_PA, (0, NAMED_DIFFERENCES), value=count)
        summaries_P: Tensor = self._summary[padded[:, 0], padded[:, 1]]
        return summaries_P


def _range(ids: list[int]) -> range:
    assert ids == list(range(ids[0], ids[0] + len(ids))), (
        "the tokenizer numbers what may stand in one place in a row"
    )
    return range(ids[0], ids[0] + len(ids))


@torch.no_grad()
def own_context(supervisor: Pocket, prompt_PLH: Tensor, slots: Slots, generator: torch.Generator) -> Tensor:
    """A well-formed answer of the model's own up to its verdict, sampled at temperature 1 slot by slot:
    tokens_PT without the last two.

    What stands in a slot by force needs no forward pass of its own, which makes this cheaper than free
    sampling.
    """
    model, words = supervisor.language_model, supervisor.language_model.get_input_embeddings()
    cache = DynamicCache(config=model.config)
    tokens: list[Tensor] = []
    pending_PSH = prompt_PLH.detach()
    for slot in slots[:-2]:
        if len(slot) == 1:
            chosen_P1 = torch.full((len(prompt_PLH), 1), slot.start)
        else:
            hidden = model.model(inputs_embeds=pending_PSH, past_key_values=cache, use_cache=True)
            logits_PV = model.lm_head(hidden.last_hidden_state[:, -1])[:, slot.start : slot.stop].float()
            chosen_P1 = slot.start + torch.multinomial(logits_PV.softmax(-1), 1, generator=generator)
            pending_PSH = pending_PSH[:, :0]
        tokens.append(chosen_P1)
        pending_PSH = torch.cat([pending_PSH, words(chosen_P1).to(pending_PSH.dtype)], dim=1)
    return torch.cat(tokens, dim=1)


def most_tokens(supervisor: Supervisor, style: str) -> int:
    """How long an answer is read: a little beyond a well-formed one."""
    if isinstance(supervisor, Pocket):
        return supervisor.scheme.answer_length + 2
    return 2 * supervisor.answer_tokens(style) + 32


@torch.no_grad()
def free_answers(
    supervisor: Supervisor,
    x_a_PND: Tensor,
    x_b_PND: Tensor,
    style: str,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Answers over the whole vocabulary (temperature 0: the likeliest token): tokens_PT and mask_PT, true
    up to the end token.

    At most `most_tokens` long.
    """
    cache = DynamicCache(config=supervisor.language_model.config)
    embeddings_PSH = supervisor.prompt_embeddings(x_a_PND, x_b_PND, style)
    at, longest = embeddings_PSH.shape[1], most_tokens(supervisor, style)
    positions = supervisor.positions(supervisor.image_spans(style), at + longest)[..., None, :]
    hidden_PSH = supervisor.hidden_states(embeddings_PSH, positions[..., :at], past_key_values=cache)
    going_P = torch.ones(len(x_a_PND), dtype=torch.bool, device=embeddings_PSH.device)
    tokens, masks = [], []
    for step in range(longest):
        chosen_P = _choose(supervisor.logits(hidden_PSH[:, -1]).float(), temperature, top_p, generator)
        tokens.append(chosen_P)
        masks.append(going_P)
        going_P = going_P & (chosen_P != supervisor.eos_token_id)
        if not bool(going_P.any()):
            break
        words_P1H = supervisor.answer_embeddings(chosen_P[:, None])
        here = positions[..., at + step : at + step + 1]
        hidden_PSH = supervisor.hidden_states(words_P1H, here, past_key_values=cache)
    return torch.stack(tokens, dim=1), torch.stack(masks, dim=1)


def _choose(logits_PV: Tensor, temperature: float, top_p: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits_PV.argmax(-1)
    probability_PV = (logits_PV / temperature).softmax(-1)
    if top_p < 1:
        sorted_PV, order_PV = probability_PV.sort(dim=-1, descending=True)
        # A token stays where the mass before it is below top_p: the first always does.
        sorted_PV = torch.where(sorted_PV.cumsum(-1) - sorted_PV < top_p, sorted_PV, 0.0)
        probability_PV = torch.zeros_like(probability_PV).scatter(1, order_PV, sorted_PV)
    return torch.multinomial(probability_PV, 1, generator=generator)[:, 0]
