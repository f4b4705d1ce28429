"""Train a supervisor that describes and compares your pictures, from a table with attribute columns.

examples:
  saga supervisor train --data pictures.csv --attributes colour,material --output ~/saga/supervisors/mine
  saga train furniture --data pictures.csv --set supervisor.path=~/saga/supervisors/mine
  saga supervisor train --data pictures.csv --attributes colour,material --output ~/saga/supervisors/dino \\
      --set tower=~/models/dinov2-base
  saga supervisor train --data pictures.csv --attributes colour,material --output ~/saga/supervisors/both \\
      --set tower=~/models/dinov2-base --set language_model=~/models/Qwen3-4B

The first trains a small language model on the tokens of the tower that ships. The third takes the tower of a
vision model's checkpoint: DINOv2, DINOv3, SigLIP, SigLIP 2, CLIP, or another of transformers or timm that
gives a token a patch. The fourth puts it before a language model that stays as it is: the projector between
them trains.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

ORDER = 4


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "--data", required=True, metavar="PATH", help="a data set's name, or a table with attribute columns"
    )
    parser.add_argument(
        "--attributes", required=True, metavar="A,B,…", help="the attribute columns that it learns to name"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", type=Path, help="the supervisor's folder; must not exist"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="a=c",
        help="change one setting of the training, as often as needed; `saga settings alignment` lists them",
    )


def run(args: argparse.Namespace) -> int:
    """Train; prints how it goes, then the folder."""
    from saga_ray.config.overrides import resolve_alignment
    from saga_ray.config.settings import DataSettings
    from saga_ray.errors import UserError

    settings = resolve_alignment(args.set)
    attributes = [name.strip() for name in args.attributes.split(",") if name.strip()]
    output = args.output.expanduser().absolute()
    if output.exists():
        raise UserError(f"--output {args.output} exists; name a folder that does not")

    from saga_ray.data import sources
    from saga_ray.train.alignment import train_supervisor

    table = sources.load(DataSettings(source=args.data), settings.seed)
    command = shlex.join(["saga", *sys.argv[1:]])
    report = train_supervisor(table, attributes, output, settings, command=command)
    print(f"supervisor   {report.folder}")
    print(f"model card   {report.folder / 'README.md'}")
    return 0
