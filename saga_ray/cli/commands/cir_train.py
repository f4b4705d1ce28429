"""Train an embedder for composed retrieval, image + instruction to image, in two stages; then score it.

examples:
  saga cir train furniture-cir
  saga cir train furniture-cir --set instruct.steps=200 --output runs/cir
  saga cir train furniture-cir --data ~/pictures   captions.jsonl and triplets.jsonl there
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from saga_ray.cli.resume import begun, told_how_to_go_on

if TYPE_CHECKING:
    from saga_ray.composed.train.result import CirTrainingResult
    from saga_ray.config.composed import ComposedSettings

ORDER = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "preset", metavar="PRESET_OR_TOML", help="a preset's name, or a TOML file of settings"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="a.b=c",
        help="change one setting, as often as needed; `saga settings cir` lists them",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="your own data in place of the preset's: a folder of pictures with captions.jsonl (stage 1) and "
        "triplets.jsonl (stage 2), such as `saga cir write-triplets` writes",
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="continue an interrupted run, its folder or its name under $SAGA_HOME/runs; give the "
        "preset, the --data and the --set that it began with",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print the resolved settings")
    parser.add_argument("--output", metavar="DIR", type=Path, help="the run's folder; must be new or empty")


def run(args: argparse.Namespace) -> int:
    """Train; prints the table, then where to look."""
    from saga_ray.config.home import new_run_folder
    from saga_ray.config.overrides import resolve_composed
    from saga_ray.config.presets import to_toml

    settings = resolve_composed(args.preset, args.set, args.data)
    if args.dry_run:
        print(to_toml(settings))
        return 0
    if args.resume:
        output = begun(args.resume, args.output, settings)
    else:
        output = (args.output or new_run_folder(settings.name)).expanduser().absolute()

    from saga_ray.composed.train.run import run as train

    with told_how_to_go_on("cir train", args, output):
        result = train(settings, output, resume=bool(args.resume))
    _show(result, settings, output)
    return 0


def _show(result: CirTrainingResult, settings: ComposedSettings, output: Path) -> None:
    from rich.console import Console

    from saga_ray.composed.train.result import render_table
    from saga_ray.composed.train.run import EVALUATION
    from saga_ray.config.home import output_home
    from saga_ray.tracking.mlflow import how_to_open, store_uri
    from saga_ray.train.folder import RunFolder

    folder = RunFolder(output)
    if result.scored:
        Console().print(render_table(result))
    print(f"MLflow   {how_to_open(store_uri(settings, output_home(output)))}")
    if result.scored:
        print(f"report   {output / EVALUATION / 'report' / 'index.html'}")
    print(f"result   {folder.result}")
    print(f"model    {folder.model(list(result.stages)[-1])}")
