"""Qwen2.5-VL and Qwen3-VL as supervisors, against the library's own forward passes of the whole model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saga_ray.composed.embedder import Embedder
from saga_ray.models import supervisors
from saga_ray.models.greedy import greedy
from saga_ray.models.replay import Replay, replay
from saga_ray.models.supervisors._qwen_vl import QwenVL
from saga_ray.models.towers._qwen_vl import QwenVLTower
from saga_ray.prompts import composed as prompts
from tests.models.supervisors import qwen

LAYER = 1
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@dataclass
class Case:
    """Two pairs of pictures, three answers to each."""

    family: str
    whole: Any
    supervisor: QwenVL
    tower: QwenVLTower
    images_BHWC: Tensor
    patches_RV: Tensor
    """The processor's; a leaf."""
    grid_B3: Tensor
    tokens_PGT: Tensor
    mask_PGT: Tensor
    weight_PGT: Tensor

    def inputs(self, pair: int, answer_T: Tensor) -> dict[str, Tensor]:
        """What the whole model is given for one pair and one answer: pictures 2 x pair and the next."""
        each = len(self.patches_RV) // 4
        patches = self.patches_RV[2 * pair * each : (2 * pair + 2) * each]
        return self.whole_inputs([*self.supervisor.prompt_ids("attributes"), *answer_T.tolist()], patches)

    def whole_inputs(self, ids: list[int], patches_RV: Tensor) -> dict[str, Tensor]:
        tokens = torch.tensor([ids])
        return {
            "input_ids": tokens,
            "pixel_values": patches_RV,
            "image_grid_thw": self.grid_B3[: len(patches_RV) * 4 // len(self.patches_RV)],
            "mm_token_type_ids": (tokens == self.whole.config.image_token_id).int(),
        }

    def replay(self, x_BND: Tensor, shared_prefix: bool) -> Replay:
        return replay(
            self.supervisor,
            x_BND[::2],
            x_BND[1::2],
            self.tokens_PGT,
            self.mask_PGT,
            style="attributes",
            layer=LAYER,
            temperature=None,
            shared_prefix=shared_prefix,
        )


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder: Path = tmp_path_factory.mktemp(request.param)
    whole = qwen.write_supervisor(request.param, folder)
    supervisor = supervisors.load(folder)
    assert isinstance(supervisor, QwenVL)
    images_BHWC = qwen.pictures(request.param, 4)
    processed = qwen.processor(request.param)(list(images_BHWC.numpy()), return_tensors="pt")
    texts = [
        qwen.answer(("five", "six"), ("oval", "round"), "no"),
        qwen.answer(("fünf 🌼", "five"), ("", "oval"), "yes"),
        qwen.answer(("five", "five"), ("oval", "oval"), "no")[:40],
    ]
    answers = [supervisor.tokenizer(text)["input_ids"] + [supervisor.eos_token_id] for text in texts]
    answers += [answer[::-1] for answer in answers]
    longest = max(map(len, answers))
    tokens_BT = torch.tensor([answer + [0] * (longest - len(answer)) for answer in answers])
    mask_BT = torch.tensor([[at < len(answer) for at in range(longest)] for answer in answers])
    tokens_PGT, mask_PGT = tokens_BT.reshape(2, 3, longest), mask_BT.reshape(2, 3, longest)
    tokens_PGT[1, 0], mask_PGT[1, 0] = tokens_PGT[0, 1], mask_PGT[0, 1]
    return Case(
        request.param,
        whole,
        supervisor,
        supervisor.build_tower(),
        images_BHWC,
        processed["pixel_values"].requires_grad_(),
        processed["image_grid_thw"],
        tokens_PGT,
        mask_PGT,
        torch.randn(tokens_PGT.shape, generator=torch.Generator().manual_seed(1)),
    )


def test_patches_are_the_processor_s(case: Case) -> None:
    torch.testing.assert_close(
        case.tower.patches(case.images_BHWC).flatten(0, 1), case.patches_RV.detach(), rtol=0, atol=2e-6
    )


def test_tokens_at_the_seam_are_what_the_language_model_gets(case: Case) -> None:
    features = case.whole.model.get_image_features(case.patches_RV.detach(), case.grid_B3)
    parts = [features.pooler_output, *getattr(features, "deepstack_features", [])]
    expected_BND = torch.cat([torch.stack(list(part)) for part in parts], dim=-1)
    x_BND = case.tower(case.images_BHWC)
    assert x_BND.shape == (4, qwen.SIDE**2, case.supervisor.token_width)
    assert (case.tower.tokens_per_image, case.tower.token_width) == x_BND.shape[1:]
    torch.testing.assert_close(x_BND, expected_BND, **CLOSE)
    alone = case.tower(case.images_BHWC[2:3])
    torch.testing.assert_close(x_BND[2:3], alone, **CLOSE)


def test_positions_are_the_library_s(case: Case) -> None:
    inputs = case.inputs(0, case.tokens_PGT[0, 0])
    positions_31S, _ = case.whole.model.get_rope_index(
        inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"], image_grid_thw=case.grid_B3[:2]
    )
    spans = case.supervisor.image_spans("attributes")
    ours_3S = case.supervisor.positions(spans, inputs["input_ids"].shape[1])
    assert torch.equal(ours_3S, positions_31S[:, 0])


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_probabilities_pixel_gradients_and_attention_are_the_whole_model_s(
    case: Case, shared_prefix: bool
) -> None:
    """One answer at a time, unpadded, with eager attention, from the processor's patches."""
    case.whole.set_attn_implementation("eager")
    expected_logp = torch.zeros(case.tokens_PGT.shape)
    attention: dict[tuple[int, int], Tensor] = {}
    length = len(case.supervisor.prompt_ids("attributes"))
    for p, g in [(p, g) for p in range(2) for g in range(3)]:
        answer_T = case.tokens_PGT[p, g][case.mask_PGT[p, g]]
        output = case.whole(**case.inputs(p, answer_T), output_attentions=True)
        logp_TV = output.logits[0, length - 1 : -1].log_softmax(-1)
        expected_logp[p, g, : len(answer_T)] = logp_TV.gather(-1, answer_T[:, None])[:, 0]
        attention[p, g] = output.attentions[LAYER][0].mean(0).detach()
    expected_gradient = torch.autograd.grad((expected_logp * case.weight_PGT).sum(), case.patches_RV)[0]

    replayed = case.replay(case.tower.tokens(case.patches_RV.unflatten(0, (4, -1))), shared_prefix)
    gradient = torch.autograd.grad((replayed.logp_PGT * case.weight_PGT).sum(), case.patches_RV)[0]

    assert expected_logp[case.mask_PGT].std() > 1, "the model tells tokens apart"
    torch.testing.assert_close(replayed.logp_PGT, expected_logp.detach(), **CLOSE)
    scale = expected_gradient.abs().max()
    torch.testing.assert_close(gradient / scale, expected_gradient / scale, rtol=1e-3, atol=1e-5)
    masks = case.supervisor.description_masks(case.tokens_PGT.flatten(0, 1), case.mask_PGT.flatten(0, 1))
    spans = case.supervisor.image_spans("attributes")
    for image, taught_PGN in enumerate((replayed.attention_a_PGN, replayed.attention_b_PGN)):
        assert taught_PGN is not None
        for (p, g), weights_SS in attention.items():
            at = length + masks[image][3 * p + g].nonzero()[:, 0]
            assert bool(len(at)) == ((p, g) in [(0, 0), (0, 1), (1, 0)])
            share_N = weights_SS[at][:, spans[image]].sum(0)
            expected_N = share_N / share_N.sum() if len(at) else share_N
            torch.testing.assert_close(taught_PGN[p, g], expected_N, **CLOSE)


def test_the_verdict_s_logits_are_those_behind_its_key(case: Case) -> None:
    replayed = case.replay(case.tower(case.images_BHWC), shared_prefix=True)
    assert replayed.verdict_mask_PG.tolist() == [[True, True, False], [True, False, False]]
    tokenizer = case.supervisor.tokenizer
    yes, no = (tokenizer.decode([token]) for token in case.supervisor.verdict_token_ids)
    assert yes.strip('" ').startswith("y") and no.strip('" ').startswith("n")


def test_greedy_answers_are_the_whole_model_s(case: Case) -> None:
    x_BND = case.tower(case.images_BHWC)
    ours_PT = greedy(case.supervisor, x_BND[::2], x_BND[1::2], "attributes", 12)
    case.whole.set_attn_implementation("sdpa")
    for pair in range(2):
        inputs = case.inputs(pair, torch.tensor([], dtype=torch.long))
        whole_1S = case.whole.generate(
            **{name: value.detach() for name, value in inputs.items()}, do_sample=False, max_new_tokens=12
        )
        theirs = whole_1S[0, inputs["input_ids"].shape[1] :].tolist()
        assert ours_PT[pair].tolist()[: len(theirs)] == theirs


def test_an_embedding_is_the_whole_model_s_last_hidden_state(case: Case) -> None:
    embedder = Embedder(case.supervisor)
    instructions = ["paint it red", "a much longer instruction that names a garden and a wall"]
    with torch.no_grad():
        z_BH = embedder.last_hidden(
            [prompts.composed(each) for each in instructions], embedder.tokens(case.images_BHWC[:2])
        )
        text_BH = embedder.last_hidden([prompts.text(each) for each in instructions], None)
        each = len(case.patches_RV) // 4
        for row, instruction in enumerate(instructions):
            before, after = case.supervisor.embedding_layout(prompts.composed(instruction), image=True)
            ids = [*before, *[case.whole.config.image_token_id] * qwen.SIDE**2, *after]
            patches = case.patches_RV.detach()[row * each : (row + 1) * each]
            output = case.whole(**case.whole_inputs(ids, patches), output_hidden_states=True)
            torch.testing.assert_close(z_BH[row], output.hidden_states[-1][0, -1], **CLOSE)
            _, ids = case.supervisor.embedding_layout(prompts.text(instruction), image=False)
            output = case.whole(input_ids=torch.tensor([ids]), output_hidden_states=True)
            torch.testing.assert_close(text_BH[row], output.hidden_states[-1][0, -1], **CLOSE)
