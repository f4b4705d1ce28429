"""Export: write aside, load again, compare, add the model card, and only then give the folder its name."""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from saga_ray.config.names import modules_in
from saga_ray.errors import UserError
from saga_ray.export.card import model_card
from saga_ray.export.compare import Compared
from saga_ray.models.encoder import Encoder

CARD = "README.md"


class Format(Protocol):
    """What a file of `formats` offers."""

    USE: str
    """Markdown of the model card: how to load and use the export. ``{size}`` is the image size."""

    def write(self, model: Path, encoder: Encoder, folder: Path) -> Compared:
        """Write the export of the encoder, which `model` holds, into an existing, empty folder; load it from
        there and compare. Raises UserError where that cannot be done.
        """


@dataclass(frozen=True)
class Exported:
    """A finished export."""

    folder: Path
    compared: Compared
    megabytes: float


def formats() -> list[str]:
    """The formats that there are."""
    return modules_in("export/formats")


def export(model: Path, format: str, output: Path) -> Exported:
    """Write the encoder in the folder `model` to the folder `output`, which must not exist.

    Raises UserError where an encoder cannot be exported so, and where what was exported embeds otherwise than
    the encoder; then nothing is left.
    """
    if format not in formats():
        raise UserError(f"there is no format {format!r}; choose from {', '.join(formats())}")
    if output.exists():
        raise UserError(f"the output folder {output} exists; name one that does not")
    encoder = Encoder.load(model)
    writer = cast(Format, importlib.import_module(f"saga_ray.export.formats.{format}"))
    unfinished = output.with_name(output.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        compared = writer.write(model, encoder, unfinished)
        use = writer.USE.replace("{size}", str(encoder.tower.image_size))
        card = model_card(model, encoder, format, use, compared)
        (unfinished / CARD).write_text(card, encoding="utf-8")
        unfinished.rename(output)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    return Exported(output, compared, size / 1e6)
