"""From a command line to an exit code; a user's mistake is one sentence on stderr and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

from saga_ray.config.names import modules_in, nearest
from saga_ray.errors import UserError

USER_ERROR, INTERRUPTED = 2, 130
GROUPS = {
    "cir": "composed image retrieval: a reference picture and an instruction",
    "data": "look at pictures before training on them",
    "index": "a searchable index of pictures: build it, add to it, delete from it",
    "supervisor": "make the frozen multimodal language model that teaches",
}


class Parser(argparse.ArgumentParser):
    """argparse, whose complaints read like all others."""

    def error(self, message: str) -> NoReturn:
        """One sentence, with the command that was probably meant."""
        command = message.partition("invalid choice: '")[2].partition("'")[0]
        if command:
            groups = (
                action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)
            )
            names = [name for choices in groups for name in choices]
            meant = nearest(command, names)
            hint = f"did you mean {meant!r}? " if meant else ""
            message = f"there is no command {command!r}; {hint}commands: {', '.join(names)}"
        self.exit(USER_ERROR, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def parser() -> Parser:
    """The whole command line, from the files of `commands`."""
    top = Parser(
        prog="saga",
        description="Train image-retrieval encoders that a frozen multimodal language model teaches.",
        epilog="More: saga COMMAND --help. Without --output, runs live under $SAGA_HOME (default ~/saga).",
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    groups: dict[str, argparse._SubParsersAction[Parser]] = {}
    modules = [
        importlib.import_module(f"saga_ray.cli.commands.{name}") for name in modules_in("cli/commands")
    ]
    for module in sorted(modules, key=lambda module: module.ORDER):
        _add(module, commands, groups)
    return top


def _add(
    module: ModuleType,
    commands: argparse._SubParsersAction[Parser],
    groups: dict[str, argparse._SubParsersAction[Parser]],
) -> None:
    group, name = _place(module.__name__.rpartition(".")[2])
    into = commands
    if group:
        if group not in groups:
            about = GROUPS[group]
            groups[group] = commands.add_parser(group, help=about, description=about).add_subparsers(
                metavar="COMMAND", required=True
            )
        into = groups[group]
    assert module.__doc__, f"{module.__name__} has no help"
    summary, _, rest = module.__doc__.partition("\n")
    command = into.add_parser(
        name,
        help=summary,
        description=f"{summary}\n{rest}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.arguments(command)
    command.add_argument("--debug", action="store_true", help="show the traceback of a mistake too")
    command.set_defaults(run=module.run)


def _place(file: str) -> tuple[str, str]:
    """The group, or none, and the name of a command by its file: `data_check`, `cir_write_triplets`."""
    group, _, rest = file.partition("_")
    if group not in GROUPS:
        group, rest = "", file
    return group, rest.replace("_", "-")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = parser().parse_args(arguments)
    try:
        with _terminated_as_interrupted():
            code: int = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UserError as error:
        if args.debug:
            raise
        print(f"saga: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt as stop:
        print(f"saga: {stop.args[0] if stop.args else 'interrupted'}", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which `ray job stop` and batch systems send, does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
