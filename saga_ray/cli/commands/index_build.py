"""Embed pictures and write an index of them, to be searched and served.

Kinds: `flat` is exact; `hnsw` is fast for large sets; `ivfpq` is small in memory for very large ones. For the
last two it is measured, written down and printed what share of the true ten nearest they find.

examples:
  saga index build runs/demo --data ~/pictures --output pictures.index
  saga index build runs/cir --data ~/pictures --output composed.index
  saga index build runs/demo/arms/saga/model --data pictures.csv --output pictures.index --kind hnsw
  saga index build runs/demo --data inshop --root ~/In-shop --part test --output clothes.index

A table's column `id` names its pictures, else their place in it does; its further columns become metadata.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from saga_ray.cli import index

ORDER = 7


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "model",
        metavar="RUN_OR_MODEL",
        help="a run's folder or name, of `saga train` or `saga cir train`, or a model's folder",
    )
    index.data_arguments(parser)
    parser.add_argument(
        "--output", required=True, metavar="INDEX", type=Path, help="the index's folder; must not hold one"
    )
    parser.add_argument("--kind", choices=("flat", "hnsw", "ivfpq"), default="flat", help="default: flat")


def run(args: argparse.Namespace) -> int:
    """Build; prints what the index is."""
    from saga_ray.retrieval.index.folder import claimed
    from saga_ray.serve import models

    folder, output = models.find(args.model), args.output.expanduser().absolute()
    with claimed(output), index.pictures(args) as (table, how):
        from saga_ray.retrieval.index.build import build

        info = build(
            models.load(folder, how.device),
            table,
            output,
            how.settings,
            kind=args.kind,
            source=args.data,
            local=how.local,
            gpus=how.gpus,
        )
    index.show(args, info)
    return 0
