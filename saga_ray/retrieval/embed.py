"""Embeds pictures: streamed through Ray Data, or in this process where there are few.

Tasks decode on CPUs, actors hold the model; order is kept. Legend: B batch, M pictures, E embedding, N patch
tokens.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import ray
import ray.data
import torch
from numpy.typing import NDArray
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayTaskError
from torch import nn

from saga_ray.config.settings import EmbeddingSettings, EvaluationSettings
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.models.encoder import Encoder

DECODE_CPUS = (
    0.5  # logical CPUs that Ray keeps for a decoding task; other than the actors', or the two are fused
)
ACTOR_CPUS = 1.0
FEW = 5_000  # pictures; embedding them here takes about as long as starting an actor
WAIT_S = 300.0  # longest wait for a batch


@dataclass(frozen=True)
class How:
    """How pictures are embedded, see `embeddings`."""

    settings: EvaluationSettings
    local: bool
    gpus: float

    @property
    def device(self) -> str:
        """Where the model is to be loaded: actors take it from the CPU to where they are."""
        return "cuda" if self.local and torch.cuda.is_available() else "cpu"


class Pictures(Protocol):
    """What can be embedded. Its module should not import torch: processes that decode would wait for it."""

    def __len__(self) -> int: ...

    def read_image(self, row: int, size: int) -> NDArray[np.uint8]:
        """A row's picture at `size` pixels square: uint8, HWC, RGB."""


def embed(
    table: ImageTable,
    encoder: Encoder | Path,
    settings: EmbeddingSettings,
    image_size: int,
    *,
    rows: Sequence[int] | None = None,
    local: bool | None = None,
    gpus: float = 0.0,
    wait_s: float = WAIT_S,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """L2-normalised embeddings z_ME of a table's rows (default: all) and these rows, in the order asked for.

    `encoder` is an encoder or the folder of one; the rest is as for `embeddings`.
    """
    wanted_M = np.arange(len(table)) if rows is None else np.asarray(rows, dtype=np.int64)
    model = Encoder.load(encoder) if isinstance(encoder, Path) else encoder
    batches = embeddings(
        table, model, settings, image_size, rows=wanted_M, local=local, gpus=gpus, wait_s=wait_s
    )
    return np.concatenate(list(batches)), wanted_M


def embeddings(
    pictures: Pictures,
    model: nn.Module,
    settings: EmbeddingSettings,
    image_size: int,
    *,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
    texts: Sequence[str] | None = None,
    local: bool | None = None,
    gpus: float = 0.0,
    wait_s: float = WAIT_S,
) -> Iterator[NDArray[np.float32]]:
    """Batches z_BE of the pictures' rows (default: all), in the order asked for, as they are ready.

    `model` maps uint8 images_BHWC to z_BE; with `texts`, one a wanted row, it is called with these of the
    batch as well. Each of `settings.workers` actors gets `gpus` GPUs. `local` stays in this process and needs
    no Ray: the default for `FEW` pictures without GPUs, since to start actors would take longer. Raises
    UserError where the cluster gives no batch within `wait_s`.
    """
    wanted_M = np.arange(len(pictures)) if rows is None else np.asarray(rows, dtype=np.int64)
    assert len(wanted_M), "there is nothing to embed"
    assert texts is None or len(texts) == len(wanted_M), "one text a picture"
    if local is None:
        local = not gpus and len(wanted_M) <= FEW
    if local:
        return _batches_here(pictures, model, wanted_M, texts, settings.batch_size, image_size)
    return _batches_by_ray(pictures, model, wanted_M, texts, settings, image_size, gpus, wait_s)


def attention(
    table: ImageTable, encoder: Encoder, rows: Sequence[int], image_size: int
) -> NDArray[np.float32]:
    """The pooler's attention beta_MN over each chosen picture's patches, from the top left; sums to 1."""
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        images_BHWC = torch.from_numpy(_read(table, rows, image_size)).to(device)
        beta_MN: torch.Tensor = encoder.pooler.attention(encoder.tokens(images_BHWC))
    return beta_MN.float().cpu().numpy()


def _read(pictures: Pictures, rows: Sequence[int], image_size: int) -> NDArray[np.uint8]:
    return np.stack([pictures.read_image(int(row), image_size) for row in rows])


def _embed(
    model: nn.Module, images_BHWC: NDArray[np.uint8], texts_B: Sequence[str] | None
) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    with torch.inference_mode():
        # a copy: what Ray hands out lies in shared memory and may not be written to, which torch warns of
        images = torch.tensor(images_BHWC, device=device)
        z_BE: torch.Tensor = model(images) if texts_B is None else model(images, texts_B)
    return z_BE.float().cpu().numpy()


def _batches_here(
    pictures: Pictures,
    model: nn.Module,
    wanted_M: NDArray[np.int64],
    texts_M: Sequence[str] | None,
    batch_size: int,
    image_size: int,
) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(wanted_M), batch_size):
        part = slice(start, start + batch_size)
        images_BHWC = _read(pictures, wanted_M[part].tolist(), image_size)
        yield _embed(model, images_BHWC, None if texts_M is None else texts_M[part])


class _EmbedActor:
    """Holds the model in one Ray actor, and the texts that go with the pictures, if any do."""

    def __init__(self, model_ref: ray.ObjectRef[nn.Module], texts_M: Sequence[str] | None) -> None:
        device = "cuda" if ray.get_gpu_ids() else "cpu"
        self.model = ray.get(model_ref).to(device).eval()
        self.texts_M = texts_M

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        texts_B = None if self.texts_M is None else [self.texts_M[place] for place in batch["id"]]
        return {"id": batch["id"], "z": _embed(self.model, batch["images"], texts_B)}


def _decoder() -> Callable[..., dict[str, NDArray[Any]]]:
    """The decoding task: a batch of places in `wanted_M` -> their pictures.

    Made here, and not a function of this module, so that Ray sends it as it is: processes that decode then
    import neither this module nor torch, which takes seconds each.
    """

    def decode(
        batch: dict[str, Any], pictures: Any, wanted_M: NDArray[np.int64], image_size: int
    ) -> dict[str, Any]:
        rows = wanted_M[batch["id"]].tolist()
        whole = ray.get(pictures) if isinstance(pictures, ray.ObjectRef) else pictures
        return {"id": batch["id"], "images": np.stack([whole.read_image(row, image_size) for row in rows])}

    return decode


def _on_cpu(model: nn.Module) -> nn.Module:
    """The model as actors with or without a GPU can take it; the caller's stays where it is."""
    if all(parameter.device.type == "cpu" for parameter in model.parameters()):
        return model  # to copy a large one would double its memory
    return copy.deepcopy(model).cpu()


def _batches_by_ray(
    pictures: Pictures,
    model: nn.Module,
    wanted_M: NDArray[np.int64],
    texts_M: Sequence[str] | None,
    settings: EmbeddingSettings,
    image_size: int,
    gpus: float,
    wait_s: float,
) -> Iterator[NDArray[np.float32]]:
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised, once is enough
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # says there is no bar
    batches = math.ceil(len(wanted_M) / settings.batch_size)
    data = ray.data.range(len(wanted_M), override_num_blocks=batches)
    # the data set's own context: other data sets of this process keep theirs
    data.context.execution_options.preserve_order = True
    data.context.enable_progress_bars = False
    data.context.print_on_execution_start = False
    data.context.raise_original_map_exception = True
    data.context.execution_no_progress_timeout_s = wait_s
    embedded = data.map_batches(
        _decoder(),
        fn_args=(ray.put(pictures), wanted_M, image_size),
        batch_size=settings.batch_size,
        num_cpus=DECODE_CPUS,
        compute=ray.data.TaskPoolStrategy(size=settings.workers),
    ).map_batches(
        _EmbedActor,
        fn_constructor_args=(ray.put(_on_cpu(model)), texts_M),
        batch_size=settings.batch_size,
        compute=ray.data.ActorPoolStrategy(size=min(settings.workers, batches)),
        num_cpus=ACTOR_CPUS,
        num_gpus=gpus,
    )
    place = 0
    try:
        for batch in embedded.iter_batches(batch_size=None, batch_format="numpy"):
            assert batch["id"].tolist() == list(range(place, place + len(batch["id"]))), (
                "Ray changed the order"
            )
            place += len(batch["id"])
            yield np.array(batch["z"])
    except RayTaskError as error:
        # what a user can put right, such as a broken picture, without the remote traceback around it and the
        # lines about retries that Ray adds to it
        cause: BaseException = error
        while isinstance(cause, RayTaskError):
            cause = cause.cause
        if isinstance(cause, UserError):
            raise UserError(str(cause).partition("\n")[0]) from error
        raise
    except ExecutionTimeoutError as error:
        raise UserError(
            f"evaluation waited {wait_s:g} s for a batch from {settings.workers} embedding actors "
            f"({ACTOR_CPUS:g} logical CPU and {gpus:g} GPU each, {DECODE_CPUS:g} CPU for a decoding task): "
            "give the cluster more of these or ask for fewer (--workers, or the setting evaluation.workers)"
        ) from error
