"""What a family whose tower reads plain pixels must do: say and attend to what transformers' own whole model
does, given the same pixels. Everything is float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from saga_ray.composed.embedder import Embedder
from saga_ray.models.replay import replay
from saga_ray.models.supervisors._split import SplitSupervisor
from saga_ray.prompts import composed as prompts
from tests.models.supervisors.tiny_llava import ANSWER, EAGER

EXACT = {"rtol": 1e-8, "atol": 1e-10}


def answers(supervisor: SplitSupervisor) -> tuple[Tensor, Tensor]:
    """A whole answer, one cut off and one of nonsense: tokens_1GT and mask_1GT."""
    whole = [*supervisor.tokenizer.encode(ANSWER, add_special_tokens=False)]
    whole.append(supervisor.eos_token_id)
    rng = np.random.default_rng(0)
    texts = [whole, whole[:17], rng.integers(0, 400, 25).tolist()]
    longest = max(map(len, texts))
    tokens_1GT = torch.tensor([[text + [7] * (longest - len(text)) for text in texts]])
    mask_1GT = torch.tensor([[[k < len(text) for k in range(longest)] for text in texts]])
    return tokens_1GT, mask_1GT


def prompt_ids(supervisor: SplitSupervisor, style: str) -> list[int]:
    """The prompt as engines are sent it."""
    shape = 1, supervisor.tokens_per_image, supervisor.token_width
    x_1ND = torch.zeros(shape, dtype=torch.float64)
    return supervisor.engine_prompts(x_1ND, x_1ND, style)[0].token_ids


def check_replay(
    whole: Any,
    supervisor: SplitSupervisor,
    tower: Any,
    images_2HWC: Tensor,
    shared_prefix: bool,
    **beside: Any,
) -> None:
    """Log-probabilities of three answers, the gradient at the pixels of both pictures, and the attention of
    a layer, against one whole forward an answer with `pixel_values` and what the model is given `beside`."""
    tokens_1GT, mask_1GT = answers(supervisor)
    layer = 1
    pixels_2CHW = tower.pixels(images_2HWC).detach()
    weight_GT = torch.randn(
        mask_1GT[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )

    ours_2CHW = pixels_2CHW.clone().requires_grad_(True)
    x_2ND = tower.encode(ours_2CHW)
    replayed = replay(
        supervisor,
        x_2ND[:1],
        x_2ND[1:],
        tokens_1GT,
        mask_1GT,
        style="attributes",
        layer=layer,
        temperature=None,
        shared_prefix=shared_prefix,
    )
    logp_GT = replayed.logp_PGT[0]
    (gradient_2CHW,) = torch.autograd.grad((logp_GT * weight_GT).sum(), ours_2CHW)

    theirs_2CHW = pixels_2CHW.clone().requires_grad_(True)
    ids = prompt_ids(supervisor, "attributes")
    total = torch.zeros((), dtype=torch.float64)
    whole.model.language_model.set_attn_implementation(EAGER)
    for g, (tokens_T, mask_T) in enumerate(zip(tokens_1GT[0], mask_1GT[0], strict=True)):
        answer = tokens_T[mask_T]
        output = whole(
            input_ids=torch.cat([torch.tensor(ids), answer])[None],
            pixel_values=theirs_2CHW,
            output_attentions=True,
            **beside,
        )
        logp_T = output.logits[0, len(ids) - 1 : -1].log_softmax(-1)[range(len(answer)), answer]
        torch.testing.assert_close(logp_GT[g][mask_T], logp_T, **EXACT)
        total = total + (logp_T * weight_GT[g][mask_T]).sum()
        yes, no = supervisor.verdict_token_ids
        masks = supervisor.description_masks(answer[None], torch.ones_like(answer[None], dtype=torch.bool))
        assert bool(masks[0].any()) == (g == 0)
        for span, mask_1T, seen_PGN in zip(
            supervisor.image_spans("attributes"),
            masks,
            (replayed.attention_a_PGN, replayed.attention_b_PGN),
            strict=True,
        ):
            assert seen_PGN is not None
            rows_hAS = output.attentions[layer][0, :, len(ids) :][:, mask_1T[0]]
            share_N = rows_hAS[..., span].mean(0).sum(0)
            share_N = (
                share_N / share_N.sum()
                if g == 0
                else torch.zeros(supervisor.tokens_per_image, dtype=torch.float64)
            )
            torch.testing.assert_close(seen_PGN[0, g], share_N, **EXACT)
        if g == 0:
            at = int(supervisor.verdict_positions(answer[None], torch.ones(1, len(answer)).bool()))
            expected_2 = output.logits[0, len(ids) - 1 + at][[yes, no]]
            torch.testing.assert_close(replayed.verdict_logits_PG2[0, 0], expected_2, **EXACT)
    assert replayed.verdict_mask_PG.tolist() == [[True, False, False]]
    (expected_2CHW,) = torch.autograd.grad(total, theirs_2CHW)
    assert expected_2CHW.abs().amax() > 1e-3 and gradient_2CHW[0].any() and gradient_2CHW[1].any()
    scale = float(expected_2CHW.abs().amax())
    torch.testing.assert_close(gradient_2CHW, expected_2CHW, rtol=1e-7, atol=1e-9 * scale)


def check_embedder(
    whole: Any, supervisor: SplitSupervisor, images_BHWC: Tensor, ended: bool, **beside: Any
) -> None:
    """Of two pictures, with sentences and without, and of sentences alone; `beside` is given with a
    picture."""
    embedder = Embedder(supervisor, end=ended)
    embedder.tower.double()
    sentences = ["a red chair", "the same lamp, but much taller and in dark green"]
    with torch.no_grad():
        x_BND = embedder.tokens(images_BHWC)
        found = {
            "composed": embedder.last_hidden([prompts.composed(each) for each in sentences], x_BND),
            "images": embedder.last_hidden([prompts.image()] * 2, x_BND),
            "texts": embedder.last_hidden([prompts.text(each) for each in sentences], None),
        }
        for row, sentence in enumerate(sentences):
            pixels = embedder.tower.pixels(images_BHWC[row : row + 1])
            for kind, text in (
                ("composed", prompts.composed(sentence)),
                ("images", prompts.image()),
                ("texts", prompts.text(sentence)),
            ):
                image = kind != "texts"
                before, after = supervisor.embedding_layout(text, image=image)
                ids = [
                    *before,
                    *[supervisor.chat.image_token_id] * (supervisor.tokens_per_image * image),
                    *after,
                ]
                ids += [supervisor.eos_token_id] * ended
                given = {"pixel_values": pixels, **beside} if image else {}
                output = whole.model(input_ids=torch.tensor([ids]), **given)
                torch.testing.assert_close(found[kind][row], output.last_hidden_state[0, -1], **EXACT)
