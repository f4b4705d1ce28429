"""A plan as a person reads it, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from saga_ray.plan.estimate import Plan
from saga_ray.plan.hardware import CONTEXT_GIB, FRAGMENTS, Speed
from saga_ray.plan.memory import GIB
from saga_ray.plan.workload import Workload


def to_json(plan: Plan, speed: Speed) -> dict[str, Any]:
    """Everything, in operations, bytes and seconds."""
    workload = plan.workload
    return {
        "gpu": asdict(speed.gpu),
        "utilisation": speed.utilisation,
        "bandwidth_share": speed.bandwidth,
        "split": asdict(plan.split),
        "set": list(plan.settings),
        "workload": {
            "supervisor": workload.supervisor.name,
            "tower_parameters": workload.supervisor.tower.parameters,
            "language_parameters": workload.supervisor.language.parameters,
            "trained_parameters": workload.trained.parameters,
            "prompt_tokens": workload.row.prompt,
            "prompt_estimated": workload.supervisor.prompt_estimated,
            "answer_tokens": workload.row.answer,
            "longest_answer_tokens": workload.longest.answer,
            "answer_known": workload.answer_known,
            "images": workload.images,
            "pairs": workload.pairs,
            "group_size": workload.row.group,
            "micro_batches": workload.micro_batches,
            "replayed_pairs": workload.informative,
            "informative_share": workload.informative_share,
        },
        "in_parts": {
            "tower_parts": workload.tower_parts,
            "language_parts": workload.language_parts,
            "tower_gathered": workload.gathered[0],
            "language_gathered": workload.gathered[1],
            "exchanged": workload.exchanged,
        },
        "parts": [asdict(part) for part in plan.parts],
        "rollout_memory": asdict(plan.rollout),
        "training_memory": asdict(plan.training),
        "rollout_to_training": plan.ratio,
        "step_seconds": {"overlapped": plan.seconds_overlapped, "one_after_the_other": plan.seconds},
        "run_seconds": {
            "overlapped": plan.seconds_overlapped * workload.steps,
            "one_after_the_other": plan.seconds * workload.steps,
        },
    }


def lines(plan: Plan, speed: Speed) -> list[str]:
    """The table and what it means."""
    work, split, gpu = plan.workload, plan.split, speed.gpu
    supervisor, row = work.supervisor, work.row
    prompt = f"{'about ' * supervisor.prompt_estimated}{row.prompt:,} tokens"
    answer = f"{row.answer:,}{'' if work.answer_known else ' (the longest allowed)'}"
    lora = f" (and {_millions(work.trained.tower)} in adapters, which train)" if work.trained.frozen else ""
    actors = f" ({split.parts} an actor)" if split.parts > 1 else ""
    answer_and_train = f"{split.rollout} answer{actors}, {split.training} train"
    share = "1 that answers and trains" if split.shared else answer_and_train
    published = f"{gpu.memory_gib:g} GiB, {gpu.bfloat16_tflops:g} TFLOP/s bf16, {gpu.bandwidth_gbs:,.0f} GB/s"
    count = split.rollout + (0 if split.shared else split.training)
    return [
        f"supervisor   {supervisor.name}: tower {_millions(supervisor.tower.parameters)}{lora}, "
        f"language model {_millions(supervisor.language.parameters)} parameters",
        f"step         {work.micro_batches} micro-batch{'es' * (work.micro_batches > 1)} of {work.images} "
        f"pictures and {work.pairs} pairs x {row.group} answers; {work.informative} pairs replayed; "
        f"prompt {prompt}, answer {answer}",
        f"GPUs         {count} x {gpu.name} ({published}): {share}",
        "",
        f"  {'part of a step':17}{'TFLOP':>12}{'GB moved':>12}{'seconds':>12}",
        *(
            f"  {part.name:17}{_number(part.operations / 1e12):>12}{_number(part.bytes / 1e9):>12}"
            f"{_number(part.seconds):>12}"
            for part in plan.parts
        ),
        "",
        *_memory(plan),
        "",
        f"balance      rollout : training = {plan.ratio:.2f} : 1 in GPU-seconds of this split",
        f"             {' '.join('--set ' + each for each in plan.settings)}",
        f"time         {_range(plan.seconds_overlapped, plan.seconds)} a step; {work.steps:,} steps of the "
        f"arm saga: {_range(work.steps * plan.seconds_overlapped, work.steps * plan.seconds)}",
        f"assumed      {speed.utilisation:.0%} of the arithmetic, {speed.bandwidth:.0%} of the bandwidth, "
        f"{work.informative_share:.0%} of the pairs informative: not measured;",
        "             data, metric loss, kernels' starts, waiting, checkpoints and scores are not counted"
        + (", nor what an actor's GPUs tell one another" if split.parts > 1 else ""),
    ]


def _memory(plan: Plan) -> list[str]:
    rollout, training, split = plan.rollout, plan.training, plan.split
    state = training.state
    shared = " beside the rollouts" if split.shared else ""
    return [
        f"rollout GPU  {_gib(rollout.available)} for vLLM: weights {_gib(rollout.weights)}, work "
        f"{_gib(rollout.workspace)}, KV cache {_gib(rollout.cache)}",
        f"             ({rollout.cache_a_token / 1024:,.0f} KiB a token), {rollout.sequences:,} sequences at "
        "a time",
        f"training GPU {_gib(training.peak)} of {_gib(training.available)}{shared} (without "
        f"{CONTEXT_GIB:g} GiB of CUDA's and {FRAGMENTS:.0%} of fragments)",
        f"             weights {_gib(state.weights)}, gradients {_gib(state.gradients)}, optimizer "
        f"{_gib(state.optimizer)}, frozen model {_gib(state.supervisor)}, tokens {_gib(state.tokens)}",
        f"             then the largest of: replay {_gib(training.replay)}, tower "
        f"{_gib(training.tower_graph)}",
        *_in_parts(plan.workload),
        f"largest      {training.largest_images:,} pictures of a micro-batch on a worker; "
        f"train.replay_pairs={training.largest_replay_pairs}",
    ]


def _in_parts(work: Workload) -> list[str]:
    """What weights that are shared out save and cost."""
    if not (work.shards_tower or work.shards_language_model):
        return []
    shared = (work.shards_tower, work.shards_language_model)
    what = [
        f"{name} (of which at most {_gib(whole)} whole at a time)"
        for name, whole, here in zip(("tower", "language model's layers"), work.gathered, shared, strict=True)
        if here
    ]
    return [
        f"in parts     {' and '.join(what)} over {work.workers} GPUs,",
        f"             each of which gets {_number(work.exchanged / 1e9)} GB a step from the others: how "
        "long it takes is not counted",
    ]


def _gib(bytes_: int) -> str:
    return f"{bytes_ / GIB:,.1f} GiB"


def _millions(count: int) -> str:
    return f"{count / 1e9:,.2f} billion" if count >= 1e9 else f"{count / 1e6:,.1f} million"


def _number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _range(low: float, high: float) -> str:
    first, last = _time(low), _time(high)
    return first if first == last else f"{first} to {last}"


def _time(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.3g} s"
