"""A language model shared out to `rollout.tensor_parallel` GPUs, by vLLM's tensor parallelism.

vLLM's engine stays in this process and starts one process a part, in which it loads the class of
`_vllm_worker` by its name. They end with this process, however it ends: none outlives an engine that is
closed, an actor that is killed or a run that is interrupted. When one of them dies, the engine's next step
raises.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEY = "saga_ray"
WORKER = "saga_ray.rollout.engines._vllm_worker.PartWorker"


@dataclass(frozen=True)
class Told:
    """What this process tells those of the parts; travels in vLLM's `additional_config`."""

    engine: int
    """This process."""
    trace: str
    """A file for why one of them does not start."""
    tokens_per_image: int | None
    """Where images' own tokens are read, see `_vllm_images`."""

    @classmethod
    def of(cls, additional_config: Mapping[str, Any]) -> Told:
        return cls(**additional_config[KEY])


@contextmanager
def arguments(parts: int, tokens_per_image: int | None) -> Iterator[dict[str, Any]]:
    """The engine's arguments; it is to start in the block.

    Raises:
        RuntimeError: the process of a part did not start; says why.
    """
    if parts == 1:
        yield {"distributed_executor_backend": "uni"}
        return
    with tempfile.TemporaryDirectory() as folder:
        told = Told(os.getpid(), f"{folder}/trace", tokens_per_image)
        try:
            yield {
                "distributed_executor_backend": "mp",
                "tensor_parallel_size": parts,
                "worker_cls": WORKER,
                "additional_config": {KEY: asdict(told)},
            }
        except Exception as error:
            if not Path(told.trace).is_file():
                raise
            trace = Path(told.trace).read_text(encoding="utf-8")
            raise RuntimeError(f"one of rollout.tensor_parallel={parts} parts failed:\n{trace}") from error
