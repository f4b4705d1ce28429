"""Look at pictures before training on them; exit code 0 if clean, 2 otherwise.

Finds missing and unreadable files, a single class, classes with one picture, classes in both training and
test, and near-duplicate pictures across splits; says what is wrong, where, and how often. It also says which
files in a folder are left out by their ending, and where the sizes of a public data set are not the official
ones, which is no problem.

examples:
  saga data check furniture
  saga data check ~/pictures
  saga data check pictures.csv --json
  saga data check cub --root ~/CUB_200_2011
"""

from __future__ import annotations

import argparse

ORDER = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", metavar="SOURCE_OR_PATH", help="a data set's name, a folder or a table")
    parser.add_argument("--root", metavar="DIR", help="folder of a public data set's official release")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Check; prints the problems."""
    from saga_ray.config.settings import DataSettings, Settings
    from saga_ray.data.check import check

    report = check(DataSettings(source=args.source, root=args.root), Settings().seed)
    print(report.to_json() if args.json else report.to_text())
    return 0 if report.clean else 2
