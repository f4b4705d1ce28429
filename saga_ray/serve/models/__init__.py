"""Models that can be served and that can build an index, one file a kind: `encoder` (tower and pooler, of
pictures alone) and `embedder` (a multimodal language model, of pictures, texts, and both together).

To find one, and to tell it from others, loads no torch: processes that only decode do it too.
"""

from __future__ import annotations

from pathlib import Path

from saga_ray.composed.identity import CONFIG, embedder_in, gallery_hash
from saga_ray.config.home import find_run
from saga_ray.errors import UserError
from saga_ray.retrieval.index import encoder_hash
from saga_ray.retrieval.model import encoder_in
from saga_ray.serve.models.base import Servable

__all__ = ["Servable", "find", "hash_of", "load"]


def find(name: str) -> Path:
    """The folder of a model: ``name`` is such a folder, or a run's folder or name. Raises UserError."""
    folder = find_run(name)
    found = embedder_in(folder) or encoder_in(folder)
    if found is None:
        raise UserError(
            f"{folder} holds no model: it is neither a model's folder nor that of a `saga train` or "
            "`saga cir train` of which an arm or a stage has ended"
        )
    return found


def hash_of(folder: Path) -> str:
    """Tells a model's embeddings of pictures from other models'. Raises UserError where there is no model."""
    return gallery_hash(folder) if _is_embedder(folder) else encoder_hash(folder)


def load(folder: Path, device: str) -> Servable:
    """The model in a folder. Raises UserError where there is none."""
    if _is_embedder(folder):
        from saga_ray.serve.models.embedder import StoredEmbedder

        return StoredEmbedder(folder, device)
    from saga_ray.serve.models.encoder import StoredEncoder

    return StoredEncoder(folder, device)


def _is_embedder(folder: Path) -> bool:
    return (folder / CONFIG).is_file()
