"""Train and compare encoders: the arms of a preset or of your own settings file, on its pictures or on yours.

examples:
  saga train furniture
  saga train furniture --set train.steps=200 --set arms=[start,metric,saga,grpo]
  saga train furniture --data ~/pictures --output runs/mine
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from saga_ray.cli.resume import begun, told_how_to_go_on

if TYPE_CHECKING:
    from saga_ray.config.settings import Settings
    from saga_ray.train.result import Result

ORDER = 1


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
        help="change one setting, as often as needed; `saga settings` lists them",
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="your own pictures in place of the preset's: a folder with one folder per class, or a table "
        "(CSV, Parquet, JSONL) with columns image, label and optionally split and attributes; runs the arms "
        "start, metric and saga",
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="continue an interrupted run, its folder or its name under $SAGA_HOME/runs; give the "
        "preset, the --data and the --set that it began with",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only print the resolved settings and the batch equation"
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="the run's folder; must be new or empty")


def run(args: argparse.Namespace) -> int:
    """Train; prints the table, then where to look."""
    from saga_ray.config.batch import BatchEquation
    from saga_ray.config.home import new_run_folder
    from saga_ray.config.overrides import resolve
    from saga_ray.config.presets import to_toml

    settings = resolve(args.preset, args.set, args.data)
    if args.dry_run:
        print(to_toml(settings))
        print("\n".join(BatchEquation.of(settings).lines()))
        return 0
    if args.resume:
        output = begun(args.resume, args.output, settings)
    else:
        output = (args.output or new_run_folder(settings.name)).expanduser().absolute()

    from saga_ray.train.run import run as train

    with told_how_to_go_on("train", args, output):
        result = train(settings, output, resume=bool(args.resume))
    _show(result, settings, output)
    return 0


def _show(result: Result, settings: Settings, output: Path) -> None:
    from rich.console import Console

    from saga_ray.config.home import output_home
    from saga_ray.tracking.mlflow import how_to_open, store_uri
    from saga_ray.train.folder import RunFolder
    from saga_ray.train.result import render_table

    folder = RunFolder(output)
    Console().print(render_table(result))
    print(f"MLflow   {how_to_open(store_uri(settings, output_home(output)))}")
    print(f"report   {folder.report / 'index.html'}")
    print(f"result   {folder.result}")
