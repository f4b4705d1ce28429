"""Search settings: many runs of a preset with other values, compared over validation classes or queries.

examples:
  saga sweep grpo_weight                              a space that ships, see tune_spaces/
  saga sweep spaces/mine.toml --set trials=20         your own
  saga sweep composed                                 of composed retrieval: runs of `saga cir train`
  saga sweep loss_weights --resume SWEEP              go on after an interruption
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

ORDER = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("space", metavar="SPACE_OR_TOML", help="a space's name, or a TOML file of one")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="a=c",
        help="change one setting of the sweep, as often as needed; `saga settings sweep` lists them",
    )
    parser.add_argument(
        "--resume",
        metavar="SWEEP",
        type=Path,
        help="the folder of a sweep to go on with, by the settings that it began with",
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="the sweep's folder; must be new or empty")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only print the sweep's settings and, where they are known before, its trials' values",
    )


def run(args: argparse.Namespace) -> int:
    """Search; prints the winner, then where to look."""
    from saga_ray.config.home import new_run_folder, output_home
    from saga_ray.config.presets import to_toml
    from saga_ray.config.searched import searched
    from saga_ray.config.sweep import resolve_sweep, trial_settings
    from saga_ray.errors import UserError

    settings = resolve_sweep(args.space, args.set)
    if args.dry_run:
        from saga_ray.config.points import points

        print(to_toml(settings))
        if settings.known_beforehand:
            for number, values in enumerate(points(settings), 1):
                print(f"trial {number}: {values}")
        else:
            print("trials: their values are chosen as it goes")
        return 0
    if args.resume and args.output:
        raise UserError("--resume names the sweep's folder already; leave --output out")
    output = (args.resume or args.output or new_run_folder(settings.name)).expanduser().absolute()

    from saga_ray.tracking.mlflow import how_to_open, store_uri
    from saga_ray.tune.result import over_seeds
    from saga_ray.tune.sweep import WINNER, sweep

    result = sweep(settings, output, resume=args.resume is not None)
    if result.interrupted:
        again = shlex.join(["saga", "sweep", args.space, *_changes(args.set), "--resume", str(output)])
        raise KeyboardInterrupt(f"interrupted; to go on: {again}")
    numbers = {trial.id: number for number, trial in enumerate(result.trials, 1)}
    for trial in result.trials:
        if trial.status == "failed":
            print(f"trial {numbers[trial.id]} failed: {(trial.error or '').splitlines()[-1]}")
    if result.best is None:
        raise UserError(f"no trial has finished; {output / 'result.json'} says what became of each")
    best = result.trial(result.best)
    known = searched(settings.command)
    print(
        f"winner   trial {numbers[best.id]}: {settings.metric} {best.value:.2%} over the validation "
        f"{known.held_out}"
    )
    if settings.repeats > 1:
        mean = over_seeds(result.trials, best)
        print(f"         {mean:.2%} on average over {settings.repeats} seeds, the best of all points")
    for name, value in best.values.items():
        print(f"         {name} = {value}")
    for id, measured in result.test.items():
        found = ", ".join(f"{heading} {measured[name]:.2%}" for heading, name in known.headline.items())
        print(f"test     trial {numbers[id]}: {found}")
    base = trial_settings(settings, best.values)
    print(f"model    {result.registered}")
    print(f"MLflow   {how_to_open(store_uri(base, output_home(output)))}")
    print(f"report   {output / 'report' / 'index.html'}")
    print(f"preset   {output / WINNER}")
    return 0


def _changes(changes: list[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]
