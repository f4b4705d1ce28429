"""Repeat a table of a paper: its runs, what each needs, the paper's numbers; then ours beside them.

Runs that have finished in the output folder are not repeated, interrupted ones go on: the same command
continues after anything. --output and --inputs are folders that all machines of a cluster share.

examples:
  saga reproduce saga                                        the tables that there are
  saga reproduce saga --table 1 --dry-run
  saga reproduce saga --table 1 --data cub --seeds 1,2,3
  saga reproduce saga --table 1 --gpus 8 --address http://head:8265 --at-once 2
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saga_ray.plan.hardware import Speed
    from saga_ray.reproduce.found import Progress
    from saga_ray.reproduce.needs import Need
    from saga_ray.reproduce.runs import Run
    from saga_ray.reproduce.table_text import Shown
    from saga_ray.reproduce.tables import Paper

ORDER = 6


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("paper", metavar="PAPER_OR_TOML", help="a paper's name, or a TOML file like its")
    parser.add_argument("--table", metavar="NAME", help="which table; without it they are listed")
    parser.add_argument(
        "--data", type=_words, metavar="A,B", help="data sets, by their names in presets (the table's own)"
    )
    parser.add_argument(
        "--model", metavar="NAME", help="supervisor, by its name in presets (the one of the paper's numbers)"
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        default=[1],
        metavar="1,2,3",
        help="a run for each; the table has the mean (1)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="a.b=c", help="change one setting of all runs"
    )
    parser.add_argument(
        "--gpus",
        type=_count,
        metavar="N",
        help="GPUs of a run, shared out as `saga plan` does (as the presets say); runs without rollouts keep "
        "what they ask for",
    )
    parser.add_argument(
        "--gpu",
        default="h200",
        metavar="KIND",
        help="for memory and hours: a100-40, a100-80, h100, h200 (default), l40s, l4",
    )
    parser.add_argument(
        "--inputs",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the presets' relative paths start, such as data/ and supervisors/ (the working folder)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of tables and runs ($SAGA_HOME/reproduce/PAPER)",
    )
    parser.add_argument(
        "--address", metavar="URL", help="job server of a Ray cluster; without it runs run on this machine"
    )
    parser.add_argument(
        "--at-once", type=_count, default=1, metavar="N", help="jobs at the same time, with --address (1)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would run and what it needs")


def run(args: argparse.Namespace) -> int:
    """Reproduce; prints the table as it fills. Exit code 1 if a run failed."""
    from saga_ray.config.home import home
    from saga_ray.errors import UserError
    from saga_ray.plan.hardware import Speed, gpu_named
    from saga_ray.reproduce.runs import runs_of
    from saga_ray.reproduce.table_text import Shown
    from saga_ray.reproduce.tables import read_paper

    paper = read_paper(args.paper)
    if args.table is None:
        _list(paper)
        return 0
    if args.at_once > 1 and not args.address:
        raise UserError("--at-once is for jobs of a cluster: give --address, or leave it out")
    table = paper.table(args.table)
    data, model = args.data or table.data, args.model or paper.model
    _require(data, list(paper.data), "--data")
    _require([model], paper.models, "--model")
    shown = Shown(paper, table, data, model, args.seeds)
    runs = runs_of(
        paper,
        table,
        data=data,
        model=model,
        seeds=args.seeds,
        changes=args.set,
        inputs=args.inputs.expanduser().absolute(),
    )
    output = (args.output or home() / "reproduce" / Path(args.paper).stem).expanduser().absolute()
    speed = Speed(gpu_named(args.gpu))
    counted = args.dry_run or args.gpus is not None
    needs = [_need(each, speed, args.gpus) for each in runs] if counted else []
    if args.gpus is not None:
        runs = [
            each if isinstance(need, str) else each.changed(need.changes)
            for each, need in zip(runs, needs, strict=True)
        ]
    if args.dry_run:
        return _show(shown, runs, needs, speed, output)

    from saga_ray.reproduce.found import look
    from saga_ray.reproduce.inputs import require
    from saga_ray.reproduce.submit import Runner, reproduce

    require([each.run for each in look(output, runs) if each.state != "finished"])
    refused = [need for need in needs if isinstance(need, str)]
    if args.gpus is not None and refused:
        raise UserError(
            f"--gpus {args.gpus}: {len(refused)} of {len(runs)} runs cannot be shared out: {refused[0]}; "
            "leave --gpus out and give the split by --set"
        )
    runner: Runner
    if args.address:
        from saga_ray.reproduce.cluster import Cluster

        runner = Cluster(args.address)
    else:
        from saga_ray.reproduce.local import Local

        runner = Local()
    file = output / f"table-{args.table}.md"
    command = _typed(args)
    try:
        progress = reproduce(shown, runs, runner, output, file, command=command, at_once=args.at_once)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {file} is as far as it is; to go on: {command}") from None
    return _end(progress, file, command)


def _end(progress: list[Progress], file: Path, command: str) -> int:
    failed = [each for each in progress if each.state == "failed"]
    for each in failed:
        print(f"run {each.number} failed: {each.error}")
    if failed:
        print(f"again    {command}")
    print(f"table    {file}")
    return 1 if failed else 0


def _list(paper: Paper) -> None:
    width = max(map(len, paper.tables))
    print(f"{paper.title} ({paper.source})")
    for name, table in paper.tables.items():
        print(f"  --table {name:{width}}  {table.title}: {len(table.rows)} rows on {', '.join(table.data)}")


def _show(shown: Shown, runs: list[Run], needs: list[Need | str], speed: Speed, output: Path) -> int:
    from saga_ray.reproduce import table_text
    from saga_ray.reproduce.found import look
    from saga_ray.reproduce.inputs import missing

    print(f"{shown.paper.title} ({shown.paper.source}): {shown.table.title}, by {shown.model}\n")
    progress = look(output, runs)
    for each, need in zip(progress, needs, strict=True):
        print("\n".join(table_text.need_lines(each, need, speed)))
    print()
    print("\n".join(table_text.table_lines(shown, progress)))
    print()
    print("\n".join(table_text.total_lines(progress, needs, speed)))
    print("\n".join(table_text.reading(shown)))
    lacks = missing(runs)
    print("missing here" if lacks else "missing here: nothing")
    for phrase in lacks:
        print(f"  {phrase}")
    return 0


def _need(run: Run, speed: Speed, gpus: int | None) -> Need | str:
    """What a run needs, or why that is not known."""
    from saga_ray.errors import UserError
    from saga_ray.reproduce.needs import need

    try:
        return need(run, speed, gpus)
    except UserError as error:
        return str(error)


def _typed(args: argparse.Namespace) -> str:
    """The command as it was given."""
    words = ["saga", "reproduce", args.paper, "--table", args.table]
    words += ["--data", ",".join(args.data)] if args.data else []
    words += ["--model", args.model] if args.model else []
    words += ["--seeds", ",".join(map(str, args.seeds))] if args.seeds != [1] else []
    words += [word for change in args.set for word in ("--set", change)]
    words += ["--gpus", str(args.gpus), "--gpu", args.gpu] if args.gpus is not None else []
    words += ["--inputs", str(args.inputs)] if args.inputs != Path() else []
    words += ["--output", str(args.output)] if args.output else []
    words += ["--address", args.address] if args.address else []
    words += ["--at-once", str(args.at_once)] if args.at_once > 1 else []
    return shlex.join(words)


def _require(given: list[str], known: list[str], option: str) -> None:
    from saga_ray.config.names import nearest
    from saga_ray.errors import UserError

    for each in given:
        if each not in known:
            meant = nearest(each, known)
            hint = f"did you mean {meant!r}? " if meant else ""
            raise UserError(f"{option} {each}: {hint}there are {', '.join(known)}")


def _words(given: str) -> list[str]:
    words = list(dict.fromkeys(word.strip() for word in given.split(",") if word.strip()))
    if not words:
        raise argparse.ArgumentTypeError("names are expected, with commas between them")
    return words


def _seeds(given: str) -> list[int]:
    return [int(word) for word in _words(given)]


def _count(given: str) -> int:
    value = int(given)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{given} is too few: at least 1")
    return value
