"""Look at this machine: versions, cores, memory, GPUs, Ray, MLflow, engine parity.

Exit code 0 if all is well, 2 otherwise.

examples:
  saga doctor                     for the preset furniture
  saga doctor mine.toml --json    for your own settings
"""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import asdict

ORDER = 5
WIDTH = 100


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "preset",
        nargs="?",
        default="furniture",
        metavar="PRESET_OR_TOML",
        help="the run to check for (furniture)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Check; prints a line a check as it ends."""
    from saga_ray.cli.doctor import examine
    from saga_ray.config.overrides import resolve

    findings = []
    for finding in examine(resolve(args.preset)):
        findings.append(finding)
        if not args.json:
            first, *rest = textwrap.wrap(finding.detail, WIDTH) or [""]
            print(f"{finding.status:9}{finding.name:15}{first}", flush=True)
            for line in rest:
                print(f"{'':24}{line}", flush=True)
    healthy = all(finding.status != "problem" for finding in findings)
    if args.json:
        print(json.dumps({"ok": healthy, "checks": [asdict(finding) for finding in findings]}, indent=2))
    return 0 if healthy else 2
