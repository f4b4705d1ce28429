"""A searchable index of embeddings in a folder: built once, changed without a rebuild, read while it changes.

    index = Index.open(Path("pictures.index"))
    index.require_model(encoder_hash(folder), folder)
    for hit in index.search(z_QE, k=10)[0]:
        print(hit.score, hit.label, hit.id)

Shapes: Q queries, M rows, K neighbours a query, E embedding width.
"""

from saga_ray.retrieval.index.identity import encoder_hash
from saga_ray.retrieval.index.search import Hit, Index

__all__ = ["Hit", "Index", "encoder_hash"]
