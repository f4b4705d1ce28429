"""An MLflow model: registries and `mlflow models serve` take it. It needs saga-ray where it is loaded."""

from __future__ import annotations

from pathlib import Path

from saga_ray.export.compare import Compared, compare
from saga_ray.models.encoder import Encoder

USE = """
```python
import mlflow
model = mlflow.pyfunc.load_model(".")
embeddings = model.predict(images)    # NumPy, uint8, batch x {size} x {size} x 3
```

MLflow loads it by `saga_ray.tracking.served_encoder`: the package saga-ray has to be installed there
(`requirements.txt` lists what else).
"""


def write(model: Path, encoder: Encoder, folder: Path) -> Compared:
    """See `saga_ray.export.export.Format`."""
    from saga_ray.tracking.pyfunc import load, save  # MLflow takes seconds to import

    save(
        model,
        folder,
        image_size=encoder.tower.image_size,
        embedding_size=encoder.pooler.embedding_size,
    )
    return compare(encoder, load(folder), "the MLflow model")
