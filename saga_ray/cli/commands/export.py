"""Export a trained encoder for other programs; what is written is loaded and compared before it is kept.

formats:
  onnx         one file for onnxruntime, any batch size
  torch        a Python package of a few files that needs PyTorch and nothing of saga-ray
  pyfunc       an MLflow model
  safetensors  weights and configuration, as saga-ray loads them

examples:
  saga export runs/demo --format onnx --output encoder-onnx
  saga export runs/demo/arms/saga/model --format torch --output encoder-torch

Every folder has a model card, README.md, which shows how to use it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ORDER = 13


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("model", metavar="RUN_OR_MODEL", help="a run's folder or name, or a model's folder")
    parser.add_argument(
        "--format", required=True, choices=("onnx", "torch", "pyfunc", "safetensors"), help="see above"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", type=Path, help="the export's folder; must not exist"
    )


def run(args: argparse.Namespace) -> int:
    """Export; prints the folder and what the comparison came to."""
    from contextlib import redirect_stdout

    from saga_ray.retrieval.model import find_model

    model = find_model(args.model)

    from saga_ray.export import export

    with redirect_stdout(sys.stderr):
        exported = export(model, args.format, args.output.expanduser())
    compared = exported.compared
    print(f"exported    {exported.folder} ({exported.megabytes:.1f} MB)")
    print(f"model card  {exported.folder / 'README.md'}")
    print(
        f"checked     loaded again, {compared.pictures} pictures; "
        f"components differ by at most {compared.largest_difference:.1g}"
    )
    return 0
