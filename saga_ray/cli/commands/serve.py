"""Serve a model: embeddings and search over HTTP, and a page to try it.

examples:
  saga serve runs/demo                                     the run's encoder, at http://127.0.0.1:8000/
  saga serve runs/demo --index pictures.index              with search
  saga serve runs/cir --index composed.index               also with texts, and with instructions
  saga serve models:/products@champion --port 9000         from MLflow's registry
  saga serve models:/products@champion --address auto      on a Ray cluster; again: a rolling update

`saga settings serve` lists what --set can change. Production: jobs/serve.yaml.
"""

from __future__ import annotations

import argparse
import sys

ORDER = 14


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "model", metavar="MODEL", help="a model's folder, a run's folder or name, or models:/NAME@ALIAS"
    )
    parser.add_argument("--index", metavar="INDEX", help="an index that this model built, to search in")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument(
        "--token-file", metavar="FILE", help="a file with a bearer token that clients must send"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="a Ray cluster to deploy on; default: a local Ray, until Ctrl-C"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="a=c", help="change one setting, as often as needed"
    )


def run(args: argparse.Namespace) -> int:
    """Serve; prints where."""
    from saga_ray.config.serving import resolve_serving

    given = {"model": args.model, "index": args.index, "token_file": args.token_file}
    settings = resolve_serving(
        {name: value for name, value in given.items() if value is not None}, "the command line", args.set
    )

    from saga_ray.serve.run import is_loopback
    from saga_ray.serve.run import run as serve

    if settings.token_file is None and not is_loopback(args.host):
        print(
            f"saga: everyone who can reach {args.host}:{args.port} can use this service; "
            "--token-file asks for a token",
            file=sys.stderr,
        )

    def ready(url: str, goes_on: bool) -> None:
        print(f"page     {url}\nAPI      {url}docs\nmetrics  {url}metrics", flush=True)
        if goes_on:
            print("update   the same command again\nstop     serve shutdown", flush=True)

    serve(settings, host=args.host, port=args.port, address=args.address, ready=ready)
    return 0
