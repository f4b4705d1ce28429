"""Delete pictures from an index, by id or by label; nothing is built anew.

Unknown ids and labels are refused, and nothing is deleted then.

examples:
  saga index delete pictures.index --ids 1044-top 1044-side
  saga index delete pictures.index --label "discontinued chair"
"""

from __future__ import annotations

import argparse
from pathlib import Path

from saga_ray.cli import index

ORDER = 9


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("index", metavar="INDEX", type=Path, help="the index's folder")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--ids", nargs="+", default=[], metavar="ID", help="the pictures with these ids")
    which.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="LABEL",
        help="all pictures with this label; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Delete; prints what the index is now."""
    from saga_ray.retrieval.index.change import delete

    folder = args.index.expanduser()
    info, deleted = delete(folder, ids=args.ids, labels=args.label)
    index.show(args, info, deleted=deleted)
    return 0
