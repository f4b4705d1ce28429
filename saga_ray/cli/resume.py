"""What the commands that train share when they go on with an interrupted run."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel


def begun(name: str, output: Path | None, settings: BaseModel) -> Path:
    """The folder of the run to resume, which must have begun with the settings of the command line. Raises
    UserError."""
    from saga_ray.config.home import find_run
    from saga_ray.config.unchanged import require_unchanged
    from saga_ray.errors import UserError
    from saga_ray.train.folder import RunFolder

    folder = find_run(name)
    if output is not None and output.expanduser().absolute() != folder:
        raise UserError(f"--output {output} is not the run to resume, {folder}; leave --output out")
    require_unchanged(folder, RunFolder.settings_of(folder, type(settings)), settings)
    return folder


@contextmanager
def told_how_to_go_on(command: str, args: argparse.Namespace, output: Path) -> Iterator[None]:
    """Adds to an interruption what to type to continue the run, once there is one; `command`: as typed, such
    as "cir train"."""
    try:
        yield
    except KeyboardInterrupt:
        if not (output / "settings.json").exists():
            raise
        changes = [word for change in args.set for word in ("--set", change)]
        data = ["--data", args.data] if args.data else []
        again = ["saga", *command.split(), args.preset, *changes, *data, "--resume", str(output)]
        raise KeyboardInterrupt(f"interrupted; to go on: {shlex.join(again)}") from None
