"""Score an encoder by exact retrieval on unseen classes: each picture queries all the others.

In-Shop's queries search its gallery alone, as its protocol says.

With --data the test part of those pictures is scored: what their `split` calls test or, without a split, half
of the classes (`data.test_share`). A table whose `split` is test throughout is scored whole. Whether the
encoder was trained on these classes is not known then.

examples:
  saga evaluate runs/demo                       every arm of a run
  saga evaluate runs/demo/arms/saga/model       one model
  saga evaluate runs/demo --data ~/pictures     on your own pictures
  saga evaluate runs/demo --data inshop --root ~/In-shop     on a public data set
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager, redirect_stdout
from typing import TYPE_CHECKING, Any

from saga_ray.cli.embedding import WORKERS, check_workers, embedding

if TYPE_CHECKING:  # heavy, and not needed for help
    from saga_ray.config.settings import Settings
    from saga_ray.retrieval.embed import How

ORDER = 2


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", metavar="RUN_OR_MODEL", help="a run's folder or name, or a model's folder")
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="a folder or table of pictures, or a data set's name, in place of those that the run was "
        "trained on; their test part is scored",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of a public data set's official release")
    parser.add_argument("--workers", type=int, metavar="N", help=WORKERS)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout, with the keys of result.json"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate; prints a table, or JSON alone on stdout."""
    from saga_ray.config.home import find_run

    check_workers(args.workers)
    folder = find_run(args.model)

    from saga_ray.retrieval.evaluate import evaluate_path

    def how(settings: Settings, pictures: int) -> AbstractContextManager[How]:
        return embedding(settings, args.workers, pictures)

    with redirect_stdout(sys.stderr):
        result = evaluate_path(folder, data=args.data, root=args.root, embedding=how)
    print(json.dumps(result, indent=2) if args.json else _table(result, unseen=args.data is None))
    return 0


def _table(result: dict[str, Any], *, unseen: bool) -> str:
    """`unseen`: the classes are known to be none that the encoder was trained on."""
    from saga_ray.retrieval.measures import headings, searched

    data = result["data"]
    width = max(map(len, result["test"]))
    columns = headings(next(iter(result["test"].values())))
    over = f"per cent over {searched(data['test_images'], data.get('gallery_images'))} of "
    if unseen:
        lines = [f"{over}{data['test_classes']:,} unseen classes of {data['source']}"]
    else:
        lines = [
            f"{over}{data['test_classes']:,} classes of {data['source']};",
            "whether the encoder was trained on them is not known",
        ]
    lines.append(" ".join([f"{'':{width}}", *(f"{heading:>7}" for heading in columns.values())]))
    for name, measures in result["test"].items():
        lines.append(" ".join([f"{name:{width}}", *(f"{100 * measures[key]:7.1f}" for key in columns)]))
    return "\n".join(lines)
