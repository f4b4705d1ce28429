"""What a run needs before it starts: memory, the largest batches, how to share GPUs out, predicted time.

Counted from the models' sizes; no GPU, weights or pictures are needed. Times assume a share of what the maker
publishes and are a guess; operations, parameters and cache are exact. Of weights that workers hold parts of
(train.shard) it says what they send each other, not how long that takes.

examples:
  saga plan cub-qwen3vl-8b --gpus 8 --gpu h200
  saga plan cub-qwen2.5vl-3b --gpus 2 --gpu a100-80 --answer-tokens 700 --json
  saga plan cub-qwen3vl-8b --gpus 5 --set train.shard=both --set train.workers=2 --set data.blocks=2
  saga plan mine.toml --gpus 4 --supervisor ~/models/Qwen3-VL-8B-Instruct
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

ORDER = 6


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "preset", metavar="PRESET_OR_TOML", help="a preset's name, or a TOML file of settings"
    )
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change one setting")
    parser.add_argument(
        "--gpus", type=int, default=1, metavar="N", help="GPUs of the run (1: it answers and trains)"
    )
    parser.add_argument(
        "--gpu", default="h200", metavar="KIND", help="a100-40, a100-80, h100, h200 (default), l40s, l4"
    )
    parser.add_argument(
        "--supervisor",
        type=Path,
        metavar="DIR",
        help="a supervisor's folder, or one with a checkpoint's config.json, to take the sizes from",
    )
    parser.add_argument(
        "--answer-tokens",
        type=_count,
        metavar="T",
        help="expected length of an answer, for times (the longest allowed, where the supervisor writes "
        "freely); memory is always for the longest",
    )
    parser.add_argument(
        "--informative",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="share of pairs whose answers are neither all right nor all wrong (0.5)",
    )
    parser.add_argument(
        "--utilisation",
        type=_share,
        default=0.4,
        metavar="SHARE",
        help="of the arithmetic that is reached (0.4)",
    )
    parser.add_argument(
        "--bandwidth",
        type=_share,
        default=0.6,
        metavar="SHARE",
        help="of the memory's bandwidth that is (0.6)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Plan; prints the table."""
    from saga_ray.config.overrides import resolve
    from saga_ray.plan import text
    from saga_ray.plan.estimate import plan
    from saga_ray.plan.hardware import Speed, gpu_named
    from saga_ray.plan.supervisors import supervisor_sizes
    from saga_ray.plan.workload import Workload

    settings = resolve(args.preset, args.set)
    speed = Speed(gpu_named(args.gpu), args.utilisation, args.bandwidth)
    supervisor = supervisor_sizes(settings, args.supervisor)
    workload = Workload.of(
        settings, supervisor, answer_tokens=args.answer_tokens, informative_share=args.informative
    )
    made = plan(settings, workload, speed, args.gpus)
    print(
        json.dumps(text.to_json(made, speed), indent=2) if args.json else "\n".join(text.lines(made, speed))
    )
    return 0


def _share(given: str) -> float:
    value = float(given)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{given} is no share: above 0, at most 1")
    return value


def _count(given: str) -> int:
    value = int(given)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{given} is too short: at least 2")
    return value
