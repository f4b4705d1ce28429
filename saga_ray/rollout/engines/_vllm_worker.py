"""vLLM's own process for one part of a language model that is shared out, see `_vllm_parts`.

Such a process starts afresh: it knows nothing of what the engine's process has registered, and why it does
not start it would tell its own output alone.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

from vllm.platforms import current_platform

from saga_ray.rollout.engines._vllm_images import replace_processor
from saga_ray.rollout.engines._vllm_parts import Told

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker


LOOK_EVERY_S = 0.5


class PartWorker(PlatformWorker):  # type: ignore[misc]
    """Registers what the engine's process did, writes down what goes wrong until it is ready, and ends with
    that process.
    """

    def __init__(self, vllm_config: Any, *arguments: Any, **named: Any) -> None:
        self._told = Told.of(vllm_config.additional_config)
        Thread(target=_end_with, args=(self._told.engine,), name="end-with-engine", daemon=True).start()
        with self._noted():
            if self._told.tokens_per_image is not None:
                replace_processor(Path(vllm_config.model_config.model), self._told.tokens_per_image)
            super().__init__(vllm_config, *arguments, **named)

    def init_device(self) -> None:
        with self._noted():
            super().init_device()

    def load_model(self, **named: Any) -> None:
        with self._noted():
            super().load_model(**named)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            # The first trace is the cause: other parts fail because this one is gone.
            with suppress(FileExistsError), open(self._told.trace, "x", encoding="utf-8") as note:
                note.write(traceback.format_exc())
            raise


def _end_with(engine: int) -> None:
    """End at once when the engine's process is gone. vLLM's own watch on it begins when the model is loaded
    and then ends in good order, which takes seconds; an actor that Ray starts again needs the GPUs' memory
    before that.
    """
    while os.getppid() == engine:
        time.sleep(LOOK_EVERY_S)
    os._exit(1)
