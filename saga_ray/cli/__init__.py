"""The `saga` command. A command is one file of `commands`: ``data_check.py`` is ``saga data check``,
``cir_write_triplets.py`` is ``saga cir write-triplets``; the first word is a group if `GROUPS` knows it.

A command file has a docstring (the help), ``ORDER`` (its place in the list), ``arguments(parser)`` and
``run(args) -> exit code``; what is heavy it imports inside ``run``, so that help and mistakes in a command
line answer at once.
"""

from saga_ray.cli.command_line import main

__all__ = ["main"]
