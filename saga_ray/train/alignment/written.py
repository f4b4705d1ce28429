"""True answers in a language model's own words, as token ids, and the loss of a projector that is taught
them.

The language model is frozen and writes the paper's JSON already: what it lacks is to read the tower's tokens.
So its answers' probability is replay's (`saga_ray.models.replay`), with gradient into the projector.

Legend: P pairs, S rows of a table, N patch tokens, D token width, T answer length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from saga_ray.config.alignment import AlignmentSettings
from saga_ray.models.replay import replay
from saga_ray.models.supervisors._chat import ChatSupervisor
from saga_ray.prompts.answer import true_answer
from saga_ray.prompts.template import Style
from saga_ray.train.alignment.fit import Objective
from saga_ray.train.alignment.pairs import Pairs


class WrittenKey:
    """The true answer about any pair of a table's rows."""

    def __init__(self, supervisor: ChatSupervisor, attributes: Mapping[str, Sequence[str]]) -> None:
        """`attributes`: a value for every row of the table."""
        self.supervisor, self.attributes = supervisor, attributes

    def answers(self, pairs: Pairs, style: Style) -> tuple[Tensor, Tensor]:
        """tokens_PT with the end token, and mask_PT, false at the padding on the right."""
        said = [
            self._tokens(int(a), int(b), bool(same), style)
            for a, b, same in zip(pairs.a, pairs.b, pairs.same, strict=True)
        ]
        longest = max(map(len, said))
        tokens_PT = torch.zeros(len(said), longest, dtype=torch.long)
        mask_PT = torch.zeros(len(said), longest, dtype=torch.bool)
        for row, tokens in enumerate(said):
            tokens_PT[row, : len(tokens)] = torch.tensor(tokens)
            mask_PT[row, : len(tokens)] = True
        return tokens_PT, mask_PT

    def _tokens(self, a: int, b: int, same: bool, style: Style) -> list[int]:
        of_a, of_b = ({name: column[row] for name, column in self.attributes.items()} for row in (a, b))
        text = true_answer(self.supervisor.words, style, of_a, of_b, same)
        ids: list[int] = self.supervisor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self.supervisor.eos_token_id]


def written_objective(supervisor: ChatSupervisor, key: WrittenKey, settings: AlignmentSettings) -> Objective:
    """Weighted mean cross entropy of the true answers; the verdict's first token weighs more. Where the
    second picture is mixed, so is the verdict's target (see `fit.alignment_loss`)."""

    def objective(
        pairs: Pairs,
        x_a_PND: Tensor,
        x_b_PND: Tensor,
        style: Style,
        purity_P: Tensor,
        own: bool,
        generator: torch.Generator,
    ) -> Tensor:
        device = supervisor.language_model.device
        tokens_PT, mask_PT = (each.to(device) for each in key.answers(pairs, style))
        replayed = replay(
            supervisor,
            x_a_PND.to(device),
            x_b_PND.to(device),
            tokens_PT[:, None],
            mask_PT[:, None],
            style=style,
            layer=None,
            temperature=None,
            shared_prefix=True,
        )
        assert replayed.verdict_mask_PG.all(), "a true answer has its verdict"
        row_P = torch.arange(len(pairs), device=device)
        weight_PT = mask_PT.float()
        weight_PT[row_P, supervisor.verdict_positions(tokens_PT, mask_PT)] = settings.verdict_weight
        loss_P = -(replayed.logp_PGT[:, 0] * weight_PT).sum(1)
        no_P = (~torch.from_numpy(pairs.same)).long().to(device)
        logits_P2 = replayed.verdict_logits_PG2[:, 0]
        lead_P = logits_P2[row_P, no_P] - logits_P2[row_P, 1 - no_P]
        loss_P = loss_P + settings.verdict_weight * (1 - purity_P.to(device)) * lead_P
        loss: Tensor = loss_P.sum() / weight_PT.sum()
        return loss

    return objective
