"""Furniture and household objects: small renders of artists' 3D models, one class a model. Renders, not
photographs.

`build.py` makes the files from a Debian package; `ATTRIBUTION.md` names the artists. Rows of all files
share their columns' meaning: `image` (JPEG bytes), `label` (the model), `split` (`train`, `extra`,
`validation`, `test`: no model, nor a variant of it, is in two).
"""

from pathlib import Path

_FOLDER = Path(__file__).parent

PARQUET = _FOLDER / "furniture.parquet"
"""Eight views a model, with its attributes."""
COMPOSED = _FOLDER / "composed.parquet"
"""Views of models repainted in another colour."""
TRIPLETS = _FOLDER / "triplets.jsonl"
"""(reference picture, instruction, target) for composed retrieval."""
ATTRIBUTES = ("category", "kind", "use", "colour", "accent", "height", "footprint", "surface")
"""The attribute columns of `PARQUET`, in the order in which a description names them."""
