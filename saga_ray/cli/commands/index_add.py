"""Add pictures to an index, embedded by the model that built it; nothing is built anew.

A server that has the index open takes the new state over; until then it answers from the old one.

examples:
  saga index add pictures.index --data ~/new-pictures
  saga index add pictures.index --data pictures.csv --existing skip
"""

from __future__ import annotations

import argparse
from pathlib import Path

from saga_ray.cli import index

ORDER = 8


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("index", metavar="INDEX", type=Path, help="the index's folder")
    index.data_arguments(parser)
    parser.add_argument(
        "--existing",
        choices=("refuse", "skip", "replace"),
        default="refuse",
        help="what to do with pictures whose ids are in the index already; default: refuse to add any",
    )
    parser.add_argument(
        "--model", metavar="RUN_OR_MODEL", help="where the model is now, if it is no longer where it was"
    )


def run(args: argparse.Namespace) -> int:
    """Add; prints what the index is now."""
    from saga_ray.retrieval.index.folder import must_hold_index
    from saga_ray.serve import models

    folder = args.index.expanduser()
    must_hold_index(folder)
    given = models.find(args.model) if args.model else None

    from saga_ray.retrieval.index.build import add, built_by

    with index.pictures(args) as (table, how):
        info, added = add(
            folder,
            models.load(given or built_by(folder), how.device),
            table,
            how.settings,
            source=args.data,
            existing=args.existing,
            local=how.local,
            gpus=how.gpus,
        )
    index.show(args, info, added=added)
    return 0
