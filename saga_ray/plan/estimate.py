"""The plan of a run on so many GPUs of a kind: what each part of a step costs, what fits, how to share the
GPUs out between rollouts and training, and how long it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from saga_ray.config.settings import RolloutSettings, Settings
from saga_ray.errors import UserError
from saga_ray.plan import counts, memory, traffic
from saga_ray.plan.hardware import CONTEXT_GIB, FRAGMENTS, Speed
from saga_ray.plan.memory import GIB
from saga_ray.plan.workload import Workload

MOST = 4096
"""Largest batches are not looked for beyond this."""


@dataclass(frozen=True)
class Part:
    """A part of a step: operations and bytes over all GPUs, and the seconds that it takes on those that it
    has."""

    name: str
    operations: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class RolloutMemory:
    """A rollout GPU, in bytes; `sequences`: so many completions run at a time."""

    available: int
    weights: int
    workspace: int
    cache: int
    cache_a_token: int
    sequences: int


@dataclass(frozen=True)
class TrainingMemory:
    """A training GPU, in bytes, and the largest batches that fit."""

    available: int
    state: memory.TrainingState
    tower_graph: int
    replay: int
    peak: int
    largest_images: int
    """Pictures of a micro-batch on a worker, as many pairs being replayed as the run does."""
    largest_replay_pairs: int
    """Pairs replayed at a time, with the run's pictures."""


@dataclass(frozen=True)
class Split:
    """How many GPUs answer and how many train; `shared`: the one GPU does both."""

    rollout: int
    training: int
    shared: bool
    memory_share: float
    """vLLM's, of a rollout GPU."""
    parts: int = 1
    """Rollout GPUs to which each actor shares the language model out."""


@dataclass(frozen=True)
class Plan:
    """All of it. A step takes between `seconds_overlapped` (training hides behind rollouts or the reverse)
    and `seconds` (nothing overlaps)."""

    workload: Workload
    split: Split
    parts: tuple[Part, ...]
    rollout: RolloutMemory
    training: TrainingMemory
    seconds: float
    seconds_overlapped: float
    ratio: float
    """Rollout GPU-seconds : training GPU-seconds of a step."""
    settings: tuple[str, ...]
    """The run's settings that ask for this, for `--set`."""


def plan(settings: Settings, workload: Workload, speed: Speed, gpus: int) -> Plan:
    """The plan with the split that balances: rollout and training GPUs busy equally long, as far as whole
    GPUs and the plan of pairs allow.

    Raises:
        UserError: something does not fit.
    """
    if gpus < 1:
        raise UserError(f"--gpus {gpus}: a plan needs 1 GPU at least")
    candidates: list[tuple[float, float, Plan]] = []
    refusal: UserError | None = None
    for split in _splits(settings, gpus):
        if settings.train.shard != "nothing" and split.training == 1:
            continue
        try:
            made = _plan(settings, workload, speed, split)
        except UserError as error:
            refusal = refusal or error
            continue
        candidates.append((made.seconds_overlapped, made.seconds, made))
    if not candidates:
        raise refusal or UserError(
            f"--gpus {gpus}: train.shard={settings.train.shard} shares weights out among 2 training GPUs or "
            "more, and no such number is left beside the rollouts that divides the micro-batch"
        )
    return min(candidates, key=lambda each: each[:2])[2]


def _splits(settings: Settings, gpus: int) -> list[Split]:
    parts = settings.rollout.tensor_parallel
    if parts == 1 and gpus == 1:
        return [Split(1, 1, True, settings.rollout.memory_share)]
    if gpus <= parts:
        raise UserError(
            f"--gpus {gpus}: a rollout actor takes rollout.tensor_parallel={parts} of them, and training 1"
        )
    alone = float(RolloutSettings.model_fields["memory_share"].default)
    return [
        Split((gpus - training) // parts * parts, training, False, alone, parts)
        for training in range(1, gpus - parts + 1)
        if _blocks(settings, training) is not None
    ]


def _blocks(settings: Settings, workers: int) -> int | None:
    """The blocks that so many workers need: the run's own if they divide them, else as many as workers; none
    where the micro-batch cannot be cut so."""
    data = settings.data
    if data.blocks % workers == 0:
        return data.blocks
    fits = data.classes_per_batch % workers == 0 and data.classes_per_batch // workers >= 2
    return workers if fits and data.pairs_per_batch % (2 * workers) == 0 else None


def _plan(settings: Settings, workload: Workload, speed: Speed, split: Split) -> Plan:
    workload = replace(workload, workers=split.training)
    rollout = rollout_memory(workload, speed, split)
    training = training_memory(workload, speed, split)
    parts = step_parts(workload, speed, split, rollout.sequences)
    answering = sum(part.seconds for part in parts if part.name in ("prefill", "decode"))
    learning = sum(part.seconds for part in parts) - answering
    overlapped = answering + learning if split.shared else max(answering, learning)
    blocks = _blocks(settings, split.training)
    share = 0.5 if split.shared else 1.0
    asked = (
        f"rollout.actors={split.rollout // split.parts}",
        f"rollout.gpus_per_actor={share * split.parts:g}",
        f"rollout.memory_share={split.memory_share:g}",
        f"train.workers={split.training}",
        f"train.gpus_per_worker={share:g}",
        f"data.blocks={blocks}",
    )
    ratio = answering * split.rollout / (learning * split.training)
    return Plan(workload, split, parts, rollout, training, answering + learning, overlapped, ratio, asked)


def step_parts(workload: Workload, speed: Speed, split: Split, at_a_time: int) -> tuple[Part, ...]:
    """The parts of a step. A part's seconds are those of the GPU with the most of it. An actor's GPUs share
    its work evenly; what they tell one another is not counted."""
    supervisor, row = workload.supervisor, workload.row
    tower, language, projector = workload.tower, supervisor.language, supervisor.projector
    times, answerers, learners = workload.micro_batches, split.rollout // split.parts, split.training
    small, large = workload.tower_precision, workload.language_precision

    def part(name: str, operations: int, bytes_: int, gpus: int, precision: int) -> Part:
        return Part(name, operations * gpus, bytes_ * gpus, speed.seconds(operations, bytes_, precision))

    def answered(name: str, operations: int, bytes_: int) -> Part:
        """What an actor does, on each of its GPUs."""
        operations, bytes_ = (-(-times * count // split.parts) for count in (operations, bytes_))
        return part(name, operations, bytes_, split.rollout, large)

    images = -(-workload.images // learners)
    encoded = counts.encode(tower, images), traffic.encode(tower, images, small)
    prompts = -(-workload.pairs // answerers)
    sequences = prompts * row.group
    replayed = -(-workload.informative // learners)
    forward = counts.replay_forward(language, projector, 2 * tower.tokens, row, teacher=workload.teacher)
    backward = counts.replay_backward(
        language, projector, 2 * tower.tokens, row, recompute=workload.recompute
    )
    moved = traffic.replay(
        language, row, replayed, workload.replay_pairs, large, recompute=workload.recompute
    )
    again = (0, 0) if workload.hold else encoded
    through = counts.tower_backward(tower, images), traffic.tower_backward(tower, images, small)
    return (
        part("encode", times * encoded[0], times * encoded[1], learners, small),
        answered(
            "prefill",
            prompts * counts.prefill(language, projector, 2 * tower.tokens, row.prompt),
            traffic.prefill(language, prompts, row.prompt, large, memory.BATCHED_TOKENS),
        ),
        answered(
            "decode",
            sequences * counts.decode(language, row.prompt, row.answer),
            traffic.decode(language, row, sequences, min(at_a_time, sequences), large),
        ),
        part("replay forward", replayed * forward, moved, learners, large),
        part("replay backward", replayed * backward, moved, learners, large),
        part(
            "tower backward",
            times * (again[0] + through[0]),
            times * (again[1] + through[1]),
            learners,
            small,
        ),
        part(
            "optimizer",
            counts.optimizer(workload.updated),
            traffic.optimizer(workload.updated),
            learners,
            4,
        ),
    )


def rollout_memory(workload: Workload, speed: Speed, split: Split) -> RolloutMemory:
    """What a rollout GPU holds: of an actor's weights and cache its part, and all of what it works in.

    Raises:
        UserError: not even one pair's completions fit beside the language model.
    """
    supervisor, precision = workload.supervisor, workload.language_precision
    language = supervisor.language
    tower = supervisor.tower if supervisor.tower_in_engine else None
    available = int(split.memory_share * speed.gpu.memory_gib * GIB)
    whole = memory.engine_weights(language, supervisor.projector, tower, precision)
    weights = -(-whole // split.parts)
    workspace = memory.engine_workspace(language, workload.max_sequences, precision)
    a_token = memory.kv_bytes(language, precision) // min(split.parts, language.key_heads)
    group = a_token * memory.group_tokens(workload.longest)
    needed = weights + workspace + group
    if needed > available:
        raise UserError(
            f"the language model of {supervisor.name} does not fit a rollout GPU: it needs {_gib(needed)} "
            f"({_gib(weights)} for its weights, {_gib(workspace)} to work in, {_gib(group)} for one pair's "
            f"{workload.row.group} completions), and {split.memory_share:g} of {speed.gpu.name}'s "
            f"{speed.gpu.memory_gib:g} GiB is {_gib(available)}; raise rollout.memory_share, lower "
            "rollout.max_parallel_sequences or rollout.max_new_tokens, take larger GPUs, or raise "
            "rollout.tensor_parallel"
        )
    cache = available - weights - workspace
    sequences = min(cache // group * workload.row.group, workload.max_sequences)
    return RolloutMemory(available, weights, workspace, cache, a_token, max(1, sequences))


def training_memory(workload: Workload, speed: Speed, split: Split) -> TrainingMemory:
    """What a training GPU holds, and the largest batches.

    Raises:
        UserError: the state, the micro-batch or the pairs replayed at a time do not fit.
    """
    available = training_available(speed, split)
    images, pairs = -(-workload.images // split.training), workload.replay_pairs

    def fits(images: int, pairs: int) -> bool:
        return workload.training_peak(images, pairs) <= available

    where = f"a training GPU: it needs {{}}, and {_gib(available)} of {speed.gpu.name} is left"
    where += " beside the rollouts" if split.shared else ""
    state = workload.state(images)
    alone = state.total + workload.update
    if alone > available:
        raise UserError(
            f"weights, gradients, optimizer state and the frozen language model of "
            f"{workload.supervisor.name} do not fit {where.format(_gib(alone))}; "
            f"take a larger GPU or a smaller model, or {_share_out(workload)}"
        )
    graph = state.total + workload.tower_graph(images)
    if graph > available:
        remedy = "lower data.classes_per_batch or train on more GPUs"
        remedy = f"set train.tower_graph=recompute, or {remedy}" if workload.hold else remedy
        raise UserError(
            f"a micro-batch's {images} pictures in the tower do not fit {where.format(_gib(graph))}; {remedy}"
        )
    if not fits(images, pairs):
        most = memory.largest(lambda count: fits(images, count), pairs)
        lighter = "" if workload.recompute else "set train.replay_graph=recompute, "
        remedy = (
            f"set train.replay_pairs={most}"
            if most
            else f"{lighter}lower {'rollout.memory_share, ' * split.shared}rollout.max_new_tokens or "
            f"rollout.group_size, or take {'one GPU more' if split.shared else 'a larger GPU'}"
        )
        raise UserError(
            f"replaying {pairs} pair{'s' * (pairs > 1)} of {workload.row.group} answers of "
            f"{workload.longest.answer:,} tokens at a time does not fit "
            f"{where.format(_gib(workload.training_peak(images, pairs)))}; {remedy}"
        )
    return TrainingMemory(
        available,
        state,
        workload.tower_graph(images),
        workload.replay(images, pairs),
        workload.training_peak(images, pairs),
        memory.largest(lambda count: fits(count, pairs), MOST),
        memory.largest(lambda count: fits(images, count), MOST),
    )


def _share_out(workload: Workload) -> str:
    """How a worker may hold less of what it holds all the time."""
    most = "language-model" if workload.trained.frozen else "both"  # a tower with adapters stays whole
    if workload.shards_language_model and workload.shards_tower == (most == "both"):
        return "train on more GPUs, over which it is shared out"
    return f"share it out among the training GPUs by train.shard={most}"


def training_available(speed: Speed, split: Split) -> int:
    """Bytes of a training GPU that tensors may take: without CUDA's own, what fragments, and vLLM's share
    where rollouts run on it."""
    left = 1 - FRAGMENTS - (split.memory_share if split.shared else 0)
    return int((left * speed.gpu.memory_gib - CONTEXT_GIB) * GIB)


def _gib(bytes_: int) -> str:
    return f"{bytes_ / GIB:,.1f} GiB"
