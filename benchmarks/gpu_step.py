"""What one whole SAGA step costs on one GPU, without Ray and vLLM: seconds, operations and memory by part.

    .venv/bin/python benchmarks/gpu_step.py cub-qwen3vl-8b --output benchmarks/gpu_step.md
    .venv/bin/python benchmarks/gpu_step.py cub-qwen2.5vl-3b --answer-tokens 1024 --generate
    .venv/bin/python benchmarks/gpu_step.py cub-qwen3vl-8b --small          the CPU will do

The step is that of `saga train` (`saga_ray.train.step`), of a preset, on a supervisor of the released size
with random weights. Such a supervisor writes noise, so every answer is a whole one of `--answer-tokens`
tokens, and the first pairs of the plan are informative; `--generate` has the transformers engine write as
many tokens first. Operations are those that `saga plan` counts; the matmul rate is measured here, in the
language model's precision.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import statistics
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from gpu.bench import Bench, Meter
from gpu.kernels import kernels_of
from gpu.page import PARTS, Measured, page
from gpu.random_models import build, sizes_of, small_settings

from saga_ray.config.overrides import resolve
from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.plan.estimate import Split, training_memory
from saga_ray.plan.hardware import Gpu, Speed
from saga_ray.plan.memory import GIB
from saga_ray.plan.workload import Workload
from saga_ray.train.step import StepResult
from saga_ray.train.stopwatch import Stopwatch


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("preset", help="a preset of a released model, such as cub-qwen3vl-8b")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change one setting")
    parser.add_argument("--answer-tokens", type=int, default=700, metavar="T", help="of every answer (700)")
    parser.add_argument("--generate", action="store_true", help="the transformers engine writes T tokens too")
    parser.add_argument(
        "--steps", type=int, default=3, metavar="N", help="that count, after one that does not"
    )
    parser.add_argument("--small", action="store_true", help="a small configuration of the architecture")
    parser.add_argument("--output", type=Path, help="a Markdown file for the page, beside stdout")
    args = parser.parse_args(words)
    command = shlex.join(
        [".venv/bin/python", "benchmarks/gpu_step.py", *(sys.argv[1:] if words is None else words)]
    )
    try:
        text = run(args, command)
    except UserError as error:
        print(f"gpu_step: {error}", file=sys.stderr)
        return 2
    print(text)
    if args.output:
        args.output.write_text(text + "\n", encoding="utf-8")
    return 0


def run(args: argparse.Namespace, command: str) -> str:
    """Measure; the page as Markdown."""
    if args.steps < 1:
        raise UserError(f"--steps {args.steps}: one step at least must count")
    if not torch.cuda.is_available() and not args.small:
        raise UserError(
            f"there is no CUDA device here, which {args.preset} needs: add --small for a small configuration "
            "of the same architecture"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = resolve(args.preset, args.set)
    if args.small:
        settings = resolve(args.preset, [*small_settings(settings), *args.set])
    if settings.encoder.lora_rank is not None or settings.train.shard != "nothing":
        raise UserError(
            "these steps train a whole tower on one GPU: leave encoder.lora_rank and train.shard out"
        )
    settings.rollout.max_new_tokens = args.answer_tokens
    check_memory(settings, args.small, device)
    try:
        built = build(settings, device, small=args.small)
        bench = Bench(settings, built, generate=args.generate)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the models of {args.preset} do not fit into the memory of {name_of(device)}: choose a preset "
            "of a smaller one"
        ) from error
    head = f"{date.today()}; {name_of(device)}; torch {torch.__version__}"
    return page(bench, measure(bench, args.steps), command, head)


def check_memory(settings: Settings, small: bool, device: torch.device) -> None:
    """Raises UserError where `saga plan` counts more than the GPU has."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory / GIB
        work = Workload.of(settings, sizes_of(settings, small))
        training_memory(work, Speed(Gpu(name_of(device), total, 0, 0, 0)), Split(1, 1, False, 0.0))


def measure(bench: Bench, steps: int) -> Measured:
    """A step to warm up, then so many that count; then replay in both ways, and what its attention runs."""
    device = bench.device
    fits(bench.step, 0, Meter(device))
    meters = [Meter(device) for _ in range(steps)]
    result = [fits(bench.step, number, meter) for number, meter in enumerate(meters, 1)][-1]
    operations = bench.operations(result)
    names = [name for name in PARTS if name in meters[0].seconds and (name != "rollout" or bench.engine)]
    return Measured(
        seconds={name: statistics.median(meter.seconds[name] for meter in meters) for name in names},
        peaks={name: max(meter.peaks[name] for meter in meters) for name in names if meters[0].peaks},
        operations=operations,
        matmul_rate=matmul_rate(device, bench.built.supervisor.language_model.dtype),
        result=result,
        replays={way: replayed(bench, way) for way in ("shared-prefix", "naive")},
        kernels=kernels_of(lambda clock: bench.step(0, clock, update=False, informative_pairs=1), device),
    )


def fits(step: Callable[[int, Meter], StepResult], number: int, meter: Meter) -> StepResult:
    """Take a step. Raises UserError where memory does not suffice, with the part that asked for it."""
    try:
        return step(number, meter)
    except torch.OutOfMemoryError as error:
        part = PARTS.get(meter.under_way, meter.under_way)
        raise UserError(
            f"the memory of {name_of(meter.device)} does not suffice for the part {part!r}: lower "
            "--answer-tokens, or by --set rollout.max_parallel_sequences, data.classes_per_batch or "
            "train.replay_pairs"
        ) from error


def replayed(bench: Bench, way: str) -> tuple[Meter, StepResult] | None:
    """The second of two steps that replay the same answers so, since the first one asks for memory; none
    where memory does not suffice."""
    try:
        bench.step(0, Meter(bench.device), update=False, replay=way)
        meter = Meter(bench.device)
        return meter, bench.step(0, meter, update=False, replay=way)
    except torch.OutOfMemoryError:
        return None


def matmul_rate(device: torch.device, dtype: torch.dtype, repeat: int = 20) -> float:
    """Operations a second of large products, the best of three rounds."""
    size = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(4):  # the first warms up
        clock = Stopwatch(device)
        with clock.part("products"):
            for _ in range(repeat):
                torch.mm(a, b)
        best = min(best, clock.seconds["products"])
    return repeat * 2 * size**3 / best


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})"


if __name__ == "__main__":
    sys.exit(main())
