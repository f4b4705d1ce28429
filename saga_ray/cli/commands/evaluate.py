"""Score an encoder by exact retrieval on unseen classes: each picture queries all the others.

examples:
  saga evaluate runs/demo                       every arm of a run
  saga evaluate runs/demo/arms/saga/model       one model
  saga evaluate runs/demo --data ~/pictures     on your own pictures
"""

from __future__ import annotations

import argparse
import json
import sys

ORDER = 2


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", metavar="RUN_OR_MODEL", help="a run's folder or name, or a model's folder")
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="a folder or table of pictures in place of those that the run was trained on",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout, with the keys of result.json"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate; prints the table, or JSON alone on stdout."""
    from contextlib import redirect_stdout

    from saga_ray.config.home import find_run

    folder = find_run(args.model)

    from saga_ray.retrieval.evaluate import evaluate_path

    with redirect_stdout(sys.stderr):
        result = evaluate_path(folder, data=args.data)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        for arm, measures in result["test"].items():
            print(arm, measures)
    return 0
