"""The page of `gpu_step.py` as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpu.bench import Bench, Meter
from gpu.kernels import Kernels

from saga_ray.plan.memory import GIB
from saga_ray.train.step import StepResult

PARTS = {
    "encode": "encode",
    "submit": "send prompts",
    "metric": "metric loss",
    "rollout": "generate",
    "replay_forward": "replay, forward",
    "replay_backward": "replay, backward",
    "distillation": "distillation",
    "tower": "tower, backward",
    "reduce": "sums and readings",
    "optimizer": "optimizer",
}
"""In the order of the step, as the table calls them."""
REPLAY = ("replay_forward", "replay_backward")


@dataclass(frozen=True)
class Measured:
    """All numbers of the page."""

    seconds: dict[str, float]
    """Median over the steps, by part."""
    peaks: dict[str, int]
    """Bytes; nothing without a GPU."""
    operations: dict[str, int]
    """Of the parts that `saga plan` counts."""
    matmul_rate: float
    """Operations a second."""
    result: StepResult
    replays: dict[str, tuple[Meter, StepResult] | None]
    """With a shared prefix and naive, of the same answers; none: memory does not suffice."""
    kernels: Kernels


def page(bench: Bench, measured: Measured, command: str, head: str) -> str:
    """All of it; `head`: date and machine."""
    settings, sizes, result = bench.settings, bench.built.sizes, measured.result
    images = settings.data.classes_per_batch * settings.data.images_per_class
    return "\n".join(
        [
            f"# One step on one device: {sizes.name}",
            "",
            f"    {command}",
            "",
            f"{head}; random weights: tower {_millions(sizes.tower.parameters)} in float32 (arithmetic "
            f"{settings.encoder.precision}), language model {_millions(sizes.language.parameters)} in "
            f"{settings.supervisor.precision}. {len(result.micro_batches)} micro-batch(es) of {images} "
            f"pictures; {int(result.rollouts['pairs_replayed'])} pair(s) replayed, "
            f"{settings.train.replay_pairs} at a time: prompt {sizes.prompt} tokens, "
            f"{settings.rollout.group_size} answers of {bench.tokens}. Large products in "
            f"{settings.supervisor.precision}: {measured.matmul_rate / 1e12:,.3g} TFLOP/s.",
            "",
            *_parts(measured),
            "",
            *_replays(bench, measured),
            "",
            *_kernels(measured.kernels),
        ]
    )


def _parts(measured: Measured) -> Iterator[str]:
    yield "| part | seconds | TFLOP | TFLOP/s | of the matmul rate | peak memory, GiB |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, seconds in measured.seconds.items():
        yield _row(PARTS[name], seconds, measured.operations.get(name), measured, measured.peaks.get(name))
    total = sum(measured.seconds.values())
    counted = sum(measured.operations.values())
    yield _row("**step**", total, counted, measured, max(measured.peaks.values(), default=None))


def _row(name: str, seconds: float, operations: int | None, measured: Measured, peak: int | None) -> str:
    cells = [name, f"{seconds:,.3g}"]
    if operations is None:
        cells += ["", "", ""]
    else:
        rate = operations / seconds
        share = rate / measured.matmul_rate
        cells += [f"{operations / 1e12:,.3g}", f"{rate / 1e12:,.3g}", f"{share:.1%}"]
    return "| " + " | ".join([*cells, _gib(peak)]) + " |"


def _replays(bench: Bench, measured: Measured) -> Iterator[str]:
    """Both ways of replay, and how their results differ."""
    yield "| replay | positions a pair | forward, s | backward, s | TFLOP | peak memory, GiB |"
    yield "|---|---:|---:|---:|---:|---:|"
    for way, taken in measured.replays.items():
        shared = way == "shared-prefix"
        positions = f"{bench.row(shared=shared).positions:,}"
        if taken is None:
            yield f"| {way} | {positions} | memory does not suffice | | | |"
            continue
        meter, result = taken
        operations = sum(bench.replay_operations(int(result.rollouts["pairs_replayed"]), shared=shared))
        seconds = [f"{meter.seconds[name]:,.3g}" for name in REPLAY]
        peak = max((meter.peaks[name] for name in REPLAY if meter.peaks), default=None)
        cells = [way, positions, *seconds, f"{operations / 1e12:,.3g}", _gib(peak)]
        yield "| " + " | ".join(cells) + " |"
    shared_prefix, naive = (measured.replays[way] for way in ("shared-prefix", "naive"))
    if shared_prefix and naive:
        times = [sum(meter.seconds[name] for name in REPLAY) for meter, _ in (shared_prefix, naive)]
        norms = [result.gradients["tokens/grpo"] for _, result in (shared_prefix, naive)]
        yield ""
        yield (
            f"The naive way takes {times[1] / times[0]:.2f} times as long; the norms of the gradients at the "
            f"tokens differ by {abs(norms[1] - norms[0]) / max(norms[1], 1e-30):.1e} of themselves."
        )


def _kernels(kernels: Kernels) -> Iterator[str]:
    fused = "fused" if kernels.masked_is_fused else "NOT fused: scores are kept for the backward pass"
    yield f"Attention in replay, by torch's profiler; the answers' masked attention is {fused}:"
    yield ""
    yield f"- prompt, causal: {_names(kernels.causal)}"
    yield f"- answers, masked: {_names(kernels.masked)}"
    yield f"- backward: {_names(kernels.backward)}"
    if kernels.device:
        yield f"- kernels of the device: {_names(kernels.device)}"


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _gib(bytes_: int | None) -> str:
    return "" if bytes_ is None else f"{bytes_ / GIB:,.1f}"


def _millions(count: int) -> str:
    return f"{count / 1e9:,.2f} billion" if count >= 1e9 else f"{count / 1e6:,.1f} million"
