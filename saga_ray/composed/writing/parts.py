"""What is done of a file that takes hours to write: a part a batch, each whole, in a folder beside it.

A command that is killed loses the batches it was working on and no others; the file itself appears at the
end, whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saga_ray.composed.writing.edits import Counts
from saga_ray.errors import UserError
from saga_ray.files import write_text

PLAN = "plan.json"


class Parts:
    """The parts of one output file."""

    def __init__(self, output: Path, plan: dict[str, Any], *, resume: bool) -> None:
        """Begin, or go on with what was begun. `plan`: what all parts have in common.

        Raises UserError where the file is there already, where it was begun and `resume` is false, where
        there is nothing to go on with, and where it was begun by another plan.
        """
        self.output, self.plan = output, plan
        self.folder = _folder(output)
        if output.exists():
            raise UserError(f"{output} exists; name a file that does not, or delete it")
        begun = was_begun(output)
        if begun and not resume:
            raise UserError(
                f"{output} was begun, its parts are in {self.folder}; "
                "go on with --resume, or delete that folder to begin anew"
            )
        if resume and not begun:
            raise UserError(f"{output} was not begun, there is no {self.folder}; leave --resume out")
        if begun:
            self._must_be_same()
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{output.parent} cannot be made: {error.strerror}; name another folder"
            ) from error

    def is_done(self, number: int) -> bool:
        """Whether a batch's part is there."""
        return self._file(number).is_file()

    def write(self, number: int, lines: Sequence[str], counts: Counts) -> None:
        """Keep a finished batch. The first one makes the folder: what fails before leaves nothing."""
        if not was_begun(self.output):
            self.folder.mkdir(exist_ok=True)
            write_text(self.folder / PLAN, json.dumps(self.plan, indent=2))
        write_text(self._file(number), json.dumps({"lines": lines, "counts": vars(counts)}))

    def finish(self, batches: int) -> Counts:
        """Join all parts to the file, in order, and take them away; returns what became of all captions.

        Without a single triplet there is no file.
        """
        total = Counts()
        aside = self.folder / self.output.name
        with aside.open("w", encoding="utf-8") as file:
            for number in range(batches):
                part = json.loads(self._file(number).read_text(encoding="utf-8"))
                file.writelines(line + "\n" for line in part["lines"])
                total.add(Counts(**part["counts"]))
        if total.written:
            os.replace(aside, self.output)
        shutil.rmtree(self.folder)
        return total

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.json"

    def _must_be_same(self) -> None:
        before = json.loads((self.folder / PLAN).read_text(encoding="utf-8"))
        for name, now in self.plan.items():
            if before.get(name) != now:
                raise UserError(
                    f"{self.output} was begun with {name} = {before.get(name)} and this command says {now}; "
                    f"repeat that command, or delete {self.folder} to begin anew"
                )


def was_begun(output: Path) -> bool:
    """Whether there are parts of a file, to go on with."""
    return (_folder(output) / PLAN).is_file()


def _folder(output: Path) -> Path:
    return output.with_name(output.name + ".parts")
