"""A trained encoder as something that other programs load: ONNX, plain PyTorch, MLflow, safetensors.

    exported = export(model_folder, "onnx", Path("encoder-onnx"))

A format is one file of `formats`. What was written is loaded again as its users will load it, and compared
with the encoder; only what agrees is kept.
"""

from saga_ray.export.export import Exported, export, formats

__all__ = ["Exported", "export", "formats"]
