"""The model card of an export: what it is, how to use it, what it was measured at, what its limits are."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from saga_ray.export.compare import Compared
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.index.identity import PREPROCESSING, encoder_hash
from saga_ray.retrieval.measures import headings, searched


def model_card(model: Path, encoder: Encoder, format: str, use: str, compared: Compared) -> str:
    """Markdown with the front matter that model hubs read."""
    tower, pooler = encoder.tower, encoder.pooler
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    size = tower.image_size
    return f"""---
pipeline_tag: image-feature-extraction
tags: [image-retrieval, metric-learning, saga-ray]
---
# {_name(model)}

An image-retrieval encoder, exported as `{format}` by saga-ray {metadata.version("saga-ray")}: a picture
becomes one embedding of unit length, and the inner product of two embeddings (their cosine) says how alike
the pictures are.

- **Tower** {tower.name}, {tower.tokens_per_image} tokens of width {tower.token_width};
  **pooler** {pooler.pooling}; {parameters:,} parameters; arithmetic {_arithmetic(encoder, format)}.
- **In**: uint8 RGB pictures, batch x {size} x {size} x 3, 0 to 255; the model normalises them itself.
- **Out**: float32 embeddings, batch x {pooler.embedding_size}, L2-normalised.
- **Preprocessing** `{PREPROCESSING}`: upright by EXIF, transparent parts white, largest centred square,
  bicubic (Pillow) to {size} pixels.
- **Encoder's hash** `{encoder_hash(model)}`: an index of saga-ray names it, and is
  searched with this encoder only.
- **Checked** before it was kept: loaded again, it embeds {compared.pictures} pictures as the encoder does;
  components differ by at most {compared.largest_difference:.1g}.

## Use

{use.strip()}

## Measured

{_measured(model)}

## Limits

It tells apart what its training pictures taught it to; measure it on your own (`saga evaluate`) before
relying on it. The weights carry whatever terms the tower's first weights and the training pictures came with.
"""


def _arithmetic(encoder: Encoder, format: str) -> str:
    return "float32" if format == "onnx" else encoder.precision


def _name(model: Path) -> str:
    run = _run_of(model)
    return model.name if run is None else f"{run.name}: arm {model.parent.name}"


def _run_of(model: Path) -> Path | None:
    """The run that a model lies in, as ``RUN/arms/ARM/model``."""
    in_run = model.name == "model" and model.parent.parent.name == "arms"
    return model.parent.parent.parent if in_run else None


def _measured(model: Path) -> str:
    run, arm = _run_of(model), model.parent.name
    if run is None or not (run / "result.json").is_file():
        return "No result lay beside the model when it was exported."
    result: dict[str, Any] = json.loads((run / "result.json").read_text())
    if arm not in result.get("test", {}):
        return "The run had no result of this arm when it was exported."
    data = result["data"]
    arms = [name for name in ("start", arm) if name in result["test"]]
    columns = headings(result["test"][arm])
    gallery = data.get("gallery_images")
    lines = [
        f"Per cent, exact {'leave-one-out ' * (gallery is None)}retrieval over "
        f"{searched(data['test_images'], gallery)} of "
        f"{data['test_classes']:,} classes of `{data['source']}` that were not trained on"
        f" (data set hash `{data['hash'][:12]}…`, seed {result['seed']}).",
        "",
        "| arm | " + " | ".join(columns.values()) + " |",
        "|---" * (len(columns) + 1) + "|",
        *(
            f"| {name} | " + " | ".join(f"{100 * result['test'][name][key]:.1f}" for key in columns) + " |"
            for name in dict.fromkeys(arms)
        ),
    ]
    if data.get("note"):
        lines += ["", data["note"]]
    return "\n".join(lines)
