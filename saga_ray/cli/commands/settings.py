"""List every setting: its name, what it may be, its default, its meaning.

examples:
  saga settings              all settings of `saga train`
  saga settings rollout      one section
  saga settings grpo.weight  one setting
  saga settings alignment    those of `saga supervisor train`
  saga settings serve        those of `saga serve`
  saga settings sweep        those of `saga sweep`
  saga settings cir          those of `saga cir train`
"""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saga_ray.config.help import SettingHelp

ORDER = 6
WIDTH = 110


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "prefix", nargs="?", default="", metavar="PREFIX", help="a section, or the beginning of a name"
    )


def run(args: argparse.Namespace) -> int:
    """Print the settings whose names start with the prefix."""
    from saga_ray.config.alignment import AlignmentSettings
    from saga_ray.config.checking import unknown
    from saga_ray.config.composed import ComposedSettings
    from saga_ray.config.help import sections, settings_help
    from saga_ray.config.serving import ServeSettings
    from saga_ray.config.sweep import SweepSettings

    others = {
        "alignment": AlignmentSettings,
        "cir": ComposedSettings,
        "serve": ServeSettings,
        "sweep": SweepSettings,
    }
    if args.prefix in others:
        for setting in settings_help(others[args.prefix]).values():
            _show(setting)
        return 0
    found = [each for each in settings_help().values() if each.name.startswith(args.prefix)]
    if not found:
        unknown(args.prefix, "the command line")
    section = ""
    for setting in found:
        if setting.section != section:
            section = setting.section
            print(f"\n[{section}] {sections()[section]}")
        _show(setting)
    return 0


def _show(setting: SettingHelp) -> None:
    print(f"{setting.name} = {setting.default}")
    for line in textwrap.wrap(f"{setting.doc} ({setting.allowed})", WIDTH - 4, break_on_hyphens=False):
        print(f"    {line}")
