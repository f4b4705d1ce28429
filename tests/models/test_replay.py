"""Replay against a reference: one completion at a time, unpadded, with the library's own eager attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import eager_mask

from saga_ray.errors import UserError
from saga_ray.models.replay import Replay, replay
from tests.tiny import EOS, PAD, TOKEN_WIDTH, TOKENS, VOCABULARY, WIDTH, TinySupervisor, tiny_supervisor

PAIRS, GROUP, LAYER = 3, 4, 1
EXACT = {"rtol": 1e-9, "atol": 1e-11}


@dataclass
class Case:
    supervisor: TinySupervisor
    x_a_PND: Tensor
    x_b_PND: Tensor
    tokens_PGT: Tensor
    mask_PGT: Tensor
    weight_PGT: Tensor

    def replay(self, shared_prefix: bool, **changes: object) -> Replay:
        options = {"style": "attributes", "layer": LAYER, "temperature": None} | changes
        return replay(
            self.supervisor,
            self.x_a_PND,
            self.x_b_PND,
            self.tokens_PGT,
            self.mask_PGT,
            shared_prefix=shared_prefix,
            **options,  # type: ignore[arg-type]
        )

    def loss_and_gradients(self, shared_prefix: bool, **changes: object) -> tuple[Tensor, Tensor, Tensor]:
        replayed = self.replay(shared_prefix, **changes)
        loss = (replayed.logp_PGT * self.weight_PGT).sum()
        return loss.detach(), *torch.autograd.grad(loss, [self.x_a_PND, self.x_b_PND])


def make_case(supervisor: TinySupervisor, pairs: int = PAIRS, longest: int = 9) -> Case:
    """Sampled answers and, so that masks and padding matter, one that breaks off and one that never ends."""
    generator = torch.Generator().manual_seed(11)
    dtype = supervisor.language_model.dtype
    x_a_PND, x_b_PND = torch.randn(2, pairs, TOKENS, TOKEN_WIDTH, generator=generator, dtype=dtype)
    torch.manual_seed(5)
    with torch.no_grad():
        prompt_PLH = supervisor.prompt_embeddings(x_a_PND, x_b_PND, "attributes")
        sampled_BT = supervisor.language_model.generate(
            inputs_embeds=prompt_PLH.repeat_interleave(GROUP, dim=0),
            attention_mask=torch.ones(len(prompt_PLH) * GROUP, prompt_PLH.shape[1], dtype=torch.long),
            do_sample=True,
            temperature=1.0,
            max_new_tokens=longest,
        )
    sampled_BT = torch.nn.functional.pad(sampled_BT, (0, longest - sampled_BT.shape[1]), value=PAD)
    tokens_PGT = sampled_BT.reshape(pairs, GROUP, longest)
    tokens_PGT[0, 0, :4] = torch.tensor([5, 8, 14, EOS])  # broken and short
    tokens_PGT[0, 1] = torch.randint(
        3, len(VOCABULARY), (longest,), generator=generator
    )  # nonsense, never ends
    ended_PGT = (tokens_PGT == EOS).cumsum(-1)
    mask_PGT = (ended_PGT - (tokens_PGT == EOS).int()) == 0
    weight_PGT = torch.randn(tokens_PGT.shape, generator=generator, dtype=dtype)
    tokens_PGT[~mask_PGT] = PAD
    return Case(
        supervisor, x_a_PND.requires_grad_(), x_b_PND.requires_grad_(), tokens_PGT, mask_PGT, weight_PGT
    )


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case(tiny_supervisor(dtype=torch.float64))


def eager64(module, query, key, value, attention_mask, scaling, **_):  # type: ignore[no-untyped-def]
    """The library's eager attention, but in the precision that it is given."""
    key = key.repeat_interleave(module.num_key_value_groups, dim=1)
    value = value.repeat_interleave(module.num_key_value_groups, dim=1)
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


AttentionInterface.register("eager64", eager64)
AttentionMaskInterface.register("eager64", eager_mask)


@dataclass
class Reference:
    logp_PGT: Tensor
    logits_PGTV: Tensor
    attention_PGhTS: list[list[Tensor]]  # of the layer, one answer at a time


def reference(case: Case, temperature: float | None = None) -> Reference:
    """Every completion by itself: whole row, all logits, all attention weights."""
    supervisor, model = case.supervisor, case.supervisor.language_model
    logp_PGT = torch.zeros(case.tokens_PGT.shape, dtype=torch.float64)
    logits_PGTV = torch.zeros(*case.tokens_PGT.shape, len(VOCABULARY), dtype=torch.float64)
    attention: list[list[Tensor]] = []
    model.set_attn_implementation("eager64")
    try:
        for p in range(len(case.tokens_PGT)):
            attention.append([])
            for g in range(case.tokens_PGT.shape[1]):
                tokens_T = case.tokens_PGT[p, g][case.mask_PGT[p, g]]
                prompt_1LH = supervisor.prompt_embeddings(
                    case.x_a_PND[p : p + 1], case.x_b_PND[p : p + 1], "attributes"
                )
                answer_1TH = model.get_input_embeddings()(tokens_T[None])
                output = model(
                    inputs_embeds=torch.cat([prompt_1LH, answer_1TH], dim=1), output_attentions=True
                )
                length = prompt_1LH.shape[1]
                logits_TV = output.logits[0, length - 1 : -1] / (temperature or 1.0)
                logp_T = logits_TV.log_softmax(-1)[range(len(tokens_T)), tokens_T]
                logp_PGT[p, g, : len(tokens_T)] = logp_T
                logits_PGTV[p, g, : len(tokens_T)] = logits_TV
                attention[p].append(output.attentions[LAYER][0, :, length:].detach())
    finally:
        model.set_attn_implementation("sdpa")
    return Reference(logp_PGT, logits_PGTV, attention)


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("temperature", [None, 0.7])
def test_probabilities_and_gradients_equal_one_completion_at_a_time(
    case: Case, shared_prefix: bool, temperature: float | None
) -> None:
    expected = reference(case, temperature)
    expected_loss = (expected.logp_PGT * case.weight_PGT).sum()
    expected_gradients = torch.autograd.grad(expected_loss, [case.x_a_PND, case.x_b_PND])

    replayed = case.replay(shared_prefix, temperature=temperature)
    loss, *gradients = case.loss_and_gradients(shared_prefix, temperature=temperature)

    assert (~case.mask_PGT).any() and case.mask_PGT.all(-1).any(), "the case has padded and full answers"
    torch.testing.assert_close(replayed.logp_PGT, expected.logp_PGT, **EXACT)
    torch.testing.assert_close(loss, expected_loss.detach(), **EXACT)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert expected_gradient.abs().max() > 1e-3, "there is a gradient to compare"
        torch.testing.assert_close(gradient, expected_gradient, **EXACT)


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_recomputed_layers_change_nothing_but_what_is_kept(case: Case, shared_prefix: bool) -> None:
    held, again = case.replay(shared_prefix), case.replay(shared_prefix, recompute=True)
    for field, value in vars(held).items():
        assert torch.equal(getattr(again, field), value), field
    (loss, *gradients), calls = case.loss_and_gradients(shared_prefix), []
    layer = case.supervisor.decoder.layers[0].mlp
    hook = layer.register_forward_pre_hook(lambda *_: calls.append(1))
    again_loss, *again_gradients = case.loss_and_gradients(shared_prefix, recompute=True)
    hook.remove()
    assert len(calls) == 2, "it was computed a second time, though the model is frozen and in evaluation mode"
    assert torch.equal(again_loss, loss)
    for again_gradient, gradient in zip(again_gradients, gradients, strict=True):
        assert torch.equal(again_gradient, gradient)
    assert not any("forward" in vars(layer) for layer in case.supervisor.decoder.layers)
    assert case.supervisor.language_model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_teacher_attention_equals_the_library_s_weights(case: Case, shared_prefix: bool) -> None:
    replayed = case.replay(shared_prefix)
    weights = reference(case).attention_PGhTS
    described = 0
    for p in range(PAIRS):
        for g in range(GROUP):
            tokens_1T, mask_1T = case.tokens_PGT[p, g][None], case.mask_PGT[p, g][None]
            masks_1T = case.supervisor.description_masks(tokens_1T, mask_1T)
            spans = case.supervisor.image_spans("attributes")
            for mask, span, attention_PGN in zip(
                masks_1T, spans, (replayed.attention_a_PGN, replayed.attention_b_PGN), strict=True
            ):
                assert attention_PGN is not None
                expected_N = torch.zeros(TOKENS, dtype=torch.float64)
                if mask.any():
                    described += 1
                    rows_N = weights[p][g].mean(0)[mask[0][: weights[p][g].shape[1]].nonzero()[:, 0]][:, span]
                    expected_N = rows_N.mean(0) / rows_N.mean(0).sum()
                torch.testing.assert_close(attention_PGN[p, g], expected_N, **EXACT)
    assert 6 <= described < 2 * PAIRS * GROUP, "some answers describe their images, some do not"


def test_both_ways_agree_to_rounding(case: Case) -> None:
    shared, naive = case.replay(True), case.replay(False)
    for field in (
        "logp_PGT",
        "verdict_logits_PG2",
        "verdict_mask_PG",
        "attention_a_PGN",
        "attention_b_PGN",
    ):
        torch.testing.assert_close(getattr(shared, field), getattr(naive, field), **EXACT)


def test_verdict_logits_are_those_that_made_the_verdict(case: Case) -> None:
    replayed = case.replay(True)
    logits_PGTV = reference(case).logits_PGTV
    at_PG = case.supervisor.verdict_positions(
        case.tokens_PGT.flatten(0, 1), case.mask_PGT.flatten(0, 1)
    ).reshape(PAIRS, GROUP)
    assert torch.equal(replayed.verdict_mask_PG, at_PG >= 0)
    assert replayed.verdict_mask_PG.any() and not replayed.verdict_mask_PG.all()
    for p in range(PAIRS):
        for g in range(GROUP):
            expected_2 = torch.zeros(2, dtype=torch.float64)
            if at_PG[p, g] >= 0:
                expected_2 = logits_PGTV[p, g, at_PG[p, g], list(case.supervisor.verdict_token_ids)]
            torch.testing.assert_close(replayed.verdict_logits_PG2[p, g], expected_2, **EXACT)
    (gradient,) = torch.autograd.grad(replayed.verdict_logits_PG2.sum(), [case.x_a_PND])
    assert gradient.abs().max() > 0


def test_what_stands_at_padding_does_not_matter(case: Case) -> None:
    other = Case(**{**vars(case), "tokens_PGT": case.tokens_PGT.clone()})
    other.tokens_PGT[~case.mask_PGT] = -100
    for before, after in zip(case.loss_and_gradients(True), other.loss_and_gradients(True), strict=True):
        assert torch.equal(before, after)


def test_pair_by_pair_gives_the_same_gradient(case: Case) -> None:
    _, *whole = case.loss_and_gradients(True)
    for p in range(PAIRS):
        one = Case(case.supervisor, *(value[p : p + 1].detach() for value in list(vars(case).values())[1:]))
        one.x_a_PND.requires_grad_()
        one.x_b_PND.requires_grad_()
        _, *alone = one.loss_and_gradients(True)
        for gradient, expected in zip(alone, whole, strict=True):
            torch.testing.assert_close(gradient[0], expected[p], **EXACT)


def test_the_supervisor_stays_as_it_was(case: Case) -> None:
    before = {name: value.clone() for name, value in case.supervisor.state_dict().items()}
    case.supervisor.train()
    case.loss_and_gradients(True)
    assert not case.supervisor.language_model.training
    assert all(not value.requires_grad and value.grad is None for value in case.supervisor.parameters())
    assert all(torch.equal(value, before[name]) for name, value in case.supervisor.state_dict().items())
    assert case.supervisor.language_model.config._attn_implementation == "sdpa"


def test_attention_carries_no_gradient_and_is_left_out_unless_asked_for(case: Case) -> None:
    asked, not_asked = case.replay(True), case.replay(True, layer=None)
    assert asked.attention_a_PGN is not None and not asked.attention_a_PGN.requires_grad
    assert not_asked.attention_a_PGN is None and not_asked.attention_b_PGN is None
    torch.testing.assert_close(asked.logp_PGT, not_asked.logp_PGT, rtol=0, atol=0)


def test_a_layer_that_is_not_there_is_the_user_s_error(case: Case) -> None:
    with pytest.raises(UserError, match="distillation.layer=2"):
        case.replay(True, layer=2)


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_answers_of_one_token(case: Case, shared_prefix: bool) -> None:
    short = Case(
        case.supervisor,
        case.x_a_PND,
        case.x_b_PND,
        case.tokens_PGT[..., :1],
        case.mask_PGT[..., :1],
        case.weight_PGT[..., :1],
    )
    replayed = short.replay(shared_prefix)
    torch.testing.assert_close(replayed.logp_PGT, case.replay(True).logp_PGT[..., :1], **EXACT)
    assert replayed.attention_a_PGN is not None and not replayed.attention_a_PGN.any()


def test_bfloat16_gives_float32_probabilities_near_the_exact_ones(case: Case) -> None:
    rough = make_case(tiny_supervisor(dtype=torch.bfloat16))
    rough.tokens_PGT, rough.mask_PGT = case.tokens_PGT, case.mask_PGT
    replayed, exact = rough.replay(True), case_with_tokens_of(rough, case).replay(True)
    assert replayed.logp_PGT.dtype == torch.float32
    assert (replayed.logp_PGT - exact.logp_PGT).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("family", "more"), [("qwen2", {}), ("qwen3", {}), ("mistral", {"sliding_window": 4})]
)
def test_other_decoders_replay_as_the_library_runs_them(
    case: Case, family: str, more: dict[str, int]
) -> None:
    """Biases, norms of queries and keys, tied heads, windows: whatever the library does is kept."""
    torch.manual_seed(6)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
        initializer_range=0.3,
        **more,
    )
    model = AutoModelForCausalLM.from_config(config)
    supervisor = TinySupervisor(Path("unsaved"), model)
    x_a_PND, x_b_PND = case.x_a_PND.detach().float(), case.x_b_PND.detach().float()
    other = Case(supervisor, x_a_PND, x_b_PND, case.tokens_PGT, case.mask_PGT, case.weight_PGT.float())
    other.x_a_PND.requires_grad_()
    other.x_b_PND.requires_grad_()
    prompt_PLH = supervisor.prompt_embeddings(x_a_PND, x_b_PND, "attributes")
    row_BSH = torch.cat(
        [
            prompt_PLH.repeat_interleave(GROUP, 0),
            model.get_input_embeddings()(case.tokens_PGT.flatten(0, 1)),
        ],
        dim=1,
    )
    logp_BTV = model(inputs_embeds=row_BSH).logits[:, prompt_PLH.shape[1] - 1 : -1].log_softmax(-1)
    logp_PGT = logp_BTV.gather(-1, case.tokens_PGT.flatten(0, 1)[..., None]).reshape(case.mask_PGT.shape)
    expected_loss = (logp_PGT * case.mask_PGT * other.weight_PGT).sum()
    expected = torch.autograd.grad(expected_loss, [x_a_PND, x_b_PND])
    for shared_prefix in (True, False):
        loss, *gradients = other.loss_and_gradients(shared_prefix)
        torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-4, atol=1e-4)
        for gradient, expected_gradient in zip(gradients, expected, strict=True):
            assert (gradient - expected_gradient).norm() < 1e-4 * expected_gradient.norm()


def case_with_tokens_of(images: Case, answers: Case) -> Case:
    """The images of one case in float64 with the answers of another."""
    return Case(
        answers.supervisor,
        images.x_a_PND.detach().double(),
        images.x_b_PND.detach().double(),
        answers.tokens_PGT,
        answers.mask_PGT,
        answers.weight_PGT,
    )
