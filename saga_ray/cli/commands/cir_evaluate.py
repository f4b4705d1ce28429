"""Score an embedder on a benchmark of composed retrieval, beside image-only and text-only baselines.

  benchmark   --split                              --protocol            (the first of each by default)
  circo       val, test                            standard
  cirr        val, test1                           standard
  fashioniq   val, test                            standard, captioned   captioned: fewer pictures, val alone
  furniture   test, validation, train, extra       standard              ships with the project
  genecis     test                                 standard
  triplets    all, train, extra, validation, test  standard              your own

Your own: a folder of pictures with a triplets.jsonl. Where a split hides its targets, files for the
benchmark's server are written instead. Pictures are embedded once: a run that was interrupted goes on where
it was.

examples:
  saga cir evaluate runs/mine --benchmark circo --root ~/circo
  saga cir evaluate runs/mine --benchmark cirr --root ~/cirr --split test1 --output cirr-test
  saga cir evaluate runs/mine/arms/instruct/model --benchmark triplets --root ~/pictures --size 256
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from saga_ray.cli.embedding import WORKERS, check_workers, embedding

if TYPE_CHECKING:  # heavy, and not needed for help
    from saga_ray.composed.result import CirResult

ORDER = 11


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "model", metavar="MODEL", help="an embedder's folder, or the folder or name of its run"
    )
    parser.add_argument("--benchmark", required=True, metavar="NAME", help="which benchmark, see above")
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        help="the folder of its release, or of your triplets; furniture ships and needs none",
    )
    parser.add_argument("--split", metavar="S", help="default: the first above")
    parser.add_argument("--protocol", metavar="P", help="default: the first above")
    parser.add_argument(
        "--size", type=int, metavar="E", help="compare only the first E numbers of each embedding"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="the folder of result and report; must be new or empty; default: one under $SAGA_HOME/runs",
    )
    parser.add_argument("--workers", type=int, metavar="N", help=WORKERS)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout, with the keys of result.json"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate; prints a table, or JSON alone on stdout."""
    from contextlib import redirect_stdout

    from saga_ray.composed.benchmarks import read
    from saga_ray.config.home import find_run, new_run_folder
    from saga_ray.config.settings import Settings

    check_workers(args.workers)
    find_run(args.model)  # mistakes are told before torch is loaded
    benchmark = read(args.benchmark, args.root, split=args.split, protocol=args.protocol)

    from saga_ray.composed.evaluation import evaluate, free_output
    from saga_ray.composed.identity import find_embedder

    model = find_embedder(args.model)
    output = free_output(args.output or new_run_folder(f"cir-{benchmark.name}"))
    pictures = sum(len(gallery.pictures) for gallery in benchmark.galleries.values())
    try:
        with (
            redirect_stdout(sys.stderr),
            embedding(Settings(), args.workers, pictures + len(benchmark.queries)) as how,
        ):
            result = evaluate(
                model,
                benchmark,
                output=output,
                size=args.size,
                settings=how.settings,
                local=how.local,
                gpus=how.gpus,
                say=print,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it was") from None
    print(result.model_dump_json(indent=2) if args.json else _text(result, output))
    return 0


def _text(result: CirResult, output: Path) -> str:
    asked = result.benchmark
    pictures = sum(asked.galleries.values())
    lines = [
        f"{asked.name} {asked.split}, protocol {asked.protocol}: {asked.queries:,} queries "
        f"over {pictures:,} pictures, embeddings of {result.embedder.size:,} numbers"
    ]
    if result.measures:
        lines += ["", *_table(result), ""]
    else:
        lines.append("its targets are hidden: send the files below to the benchmark's server")
    lines += [f"note         {sentence}" for sentence in asked.differs]
    lines += [f"predictions  {output / file}" for files in result.predictions.values() for file in files]
    lines += [f"result       {output / 'result.json'}", f"report       {output / 'report' / 'index.html'}"]
    return "\n".join(lines)


def _table(result: CirResult) -> list[str]:
    from saga_ray.composed.query_embeddings import WAYS
    from saga_ray.composed.result import heading, headline

    columns = headline(next(iter(result.measures.values())))
    width = max(map(len, WAYS.values()))
    cells = [max(7, len(heading(name)) + 1) for name in columns]
    heads = [f"{heading(name):>{cell}}" for name, cell in zip(columns, cells, strict=True)]
    lines = [f"{'per cent':{width}} {''.join(heads)}"]
    for way, measured in result.measures.items():
        values = [f"{100 * measured[name]:{cell}.1f}" for name, cell in zip(columns, cells, strict=True)]
        lines.append(f"{WAYS[way]:{width}} {''.join(values)}")
    return lines
