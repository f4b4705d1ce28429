"""What the commands of `saga index` share: their pictures, how these are embedded, what is printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from saga_ray.cli.embedding import WORKERS, check_workers, embedding

if TYPE_CHECKING:  # heavy, and not needed for help
    from saga_ray.data.table import ImageTable
    from saga_ray.retrieval.embed import How
    from saga_ray.retrieval.index.snapshot import Info


def data_arguments(parser: argparse.ArgumentParser) -> None:
    """Which pictures, and how many actors embed them."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="SOURCE_OR_PATH",
        help="a data set's name, a folder or a table; labels are kept, and not needed",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of a public data set's official release")
    parser.add_argument(
        "--part",
        choices=("train", "extra", "validation", "test"),
        help="only the pictures of this split; default: all",
    )
    parser.add_argument("--workers", type=int, metavar="N", help=WORKERS)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


@contextmanager
def pictures(args: argparse.Namespace) -> Iterator[tuple[ImageTable, How]]:
    """The pictures, and a Ray cluster for the duration of the block where they are to be embedded by it."""
    from saga_ray.config.settings import Settings
    from saga_ray.data import sources
    from saga_ray.errors import UserError

    check_workers(args.workers)
    settings = Settings()
    settings.data.source, settings.data.root = args.data, args.root
    if not args.part:  # no part is held out, and so pictures of one class or without labels do too
        settings.data.test_share = settings.data.validation_share = 0.0
    with redirect_stdout(sys.stderr):
        table = sources.load(settings.data, settings.seed, labelled=False)
        if args.part:
            table = table.part(args.part)
            if not len(table):
                raise UserError(f"{args.data} has no pictures in its part {args.part!r}")
        with embedding(settings, args.workers, len(table)) as how:
            yield table, how


def show(args: argparse.Namespace, info: Info, **changed: int) -> None:
    """Print what an index is now; `changed`: how many rows were added or deleted."""
    if args.json:
        print(json.dumps(info.model_dump() | changed, indent=2))
        return
    for what, count in changed.items():
        print(f"{what:12} {count:,} pictures")
    folder = getattr(args, "index", None) or args.output
    print(f"index        {folder}")
    print(f"pictures     {info.size:,}, embeddings of width {info.width:,}")
    settings = "".join(f", {name.replace('_', ' ')} {value}" for name, value in info.settings.items())
    print(
        f"kind         {info.kind}"
        + (settings if info.effort is None else f", effort {info.effort}{settings}")
    )
    if info.measured is None:
        print("recall@10    1 (exact)")
        return
    measured = info.measured
    print(
        f"recall@10    {measured.recall_at_10:.3f} of the exact search's, by {measured.queries} of its rows; "
        f"{measured.query_ms:.2f} ms a query, exact {measured.flat_query_ms:.2f} ms"
    )
