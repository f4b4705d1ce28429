"""The heavy checks of `saga doctor`, one a process: settings as JSON on stdin, the finding last on stdout."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError

PAIRS = 2
SEED = 1
GIB = 2**30
SHARE = 0.5  # of the free memory for what the backward pass needs; the rest is for gradients, peaks, others

Answer = tuple[str, str]  # status and detail, see Finding


def ray_starts(settings: Settings) -> Answer:
    """Join the run's cluster, or start a small local one, and let it do one task."""
    import ray

    from saga_ray.train.cluster import address_of, lock

    address = address_of(settings)
    local: dict[str, Any] = {} if address else {"num_cpus": 2, "include_dashboard": False}
    if not address:
        lock()
    ray.init(address=address or "local", log_to_driver=False, configure_logging=False, **local)
    try:
        answer = ray.get(ray.remote(lambda: 6 * 7).remote(), timeout=60)
        total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()
    where = f"the cluster at {address}" if address else "a local cluster starts"
    size = f"{total.get('CPU', 0):g} CPUs, {total.get('GPU', 0):g} GPUs"
    return (
        ("ok", f"{ray.__version__}, {where}: {size}")
        if answer == 42
        else ("problem", f"a task gave {answer}")
    )


def gpus(settings: Settings) -> Answer:
    """GPUs that the installed torch can use; none is fine where none is asked for."""
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if names:
        free = min(torch.cuda.mem_get_info(index)[0] for index in range(len(names)))
        return "ok", f"{len(names)} x {names[0]}, {free / GIB:.0f} GiB free"
    wanted = settings.train.gpus_per_worker or settings.rollout.gpus_per_actor
    why = "" if torch.version.cuda else " that this CPU build of torch could use"
    return ("problem" if wanted else "ok"), f"none{why}" + ("; the settings ask for GPUs" if wanted else "")


def faiss_finds(settings: Settings) -> Answer:
    """Exact search finds what a plain sort finds."""
    import faiss
    import numpy as np

    x_ND = np.random.default_rng(SEED).standard_normal((200, 16)).astype(np.float32)
    index = faiss.IndexFlatIP(16)
    index.add(x_ND)
    _, found_NK = index.search(x_ND, 3)
    right = bool((found_NK == np.argsort(-(x_ND @ x_ND.T), axis=1)[:, :3]).all())
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return "ok" if right else "problem", f"{faiss.__version__}, {gpus} GPUs" + (
        "" if right else "; wrong neighbours"
    )


def mlflow_store(settings: Settings) -> Answer:
    """The run's tracking server answers, or a new SQLite store can be made."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        uri = settings.tracking.uri or f"sqlite:///{Path(folder) / 'mlflow.db'}"
        client = mlflow.MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    kind = (
        f"the server {uri.rpartition('@')[2]} answers"
        if settings.tracking.uri
        else "an SQLite store can be made"
    )
    return "ok", f"{mlflow.__version__}, {kind}"


def engine_parity(settings: Settings) -> Answer:
    """The engine answers about a few made-up pairs, and replay gives its answers the same probability."""
    import torch

    from saga_ray.models import supervisors
    from saga_ray.rollout import engines
    from saga_ray.rollout.engine import PairRequest, Sampling
    from saga_ray.rollout.groups import Completion, Group
    from saga_ray.rollout.parity import parity
    from saga_ray.train.gate import Answered, replayed
    from saga_ray.train.teaching import completion_tensors

    precision, style, rollout = settings.supervisor.precision, settings.supervisor.prompt, settings.rollout
    supervisor = supervisors.load(settings.supervisor.path, precision)
    x_a_PND, x_b_PND = _made_up_tokens(supervisor, PAIRS), _made_up_tokens(supervisor, PAIRS)
    engine = engines.build(rollout.engine, supervisor.folder, rollout, precision, style)
    try:
        prompts = supervisor.engine_prompts(x_a_PND, x_b_PND, style)
        for pair, prompt in enumerate(prompts):
            seeds = tuple(range(rollout.group_size))
            sampling = Sampling.of(rollout)
            request = PairRequest(0, 0, pair, pair % 2 == 0, prompt, seeds, sampling, encoder_version=0)
            engine.submit(pair, request)
        finished: dict[int, list[Completion]] = {}
        while not engine.idle:
            finished.update(engine.step())
        name = f"{engine.name} {engine.version}"
    finally:
        engine.close()
    groups = [
        Group(
            pair,
            pair % 2 == 0,
            finished[pair],
            [0.0] * rollout.group_size,
            [False] * rollout.group_size,
            0,
            len(prompts[pair].token_ids),
        )
        for pair in range(PAIRS)
    ]
    tokens_PGT, mask_PGT = completion_tensors(groups, supervisor.eos_token_id, torch.device("cpu"))
    logp_PGT = replayed(settings, supervisor, Answered(x_a_PND, x_b_PND, tokens_PGT, mask_PGT))
    report = parity(groups, logp_PGT, rollout.parity_tolerance, precision)
    detail = (
        f"{name} and replay differ by {report.mean:.2g} nats a token on average, {report.largest:.2g} at "
        f"most, over {report.tokens} tokens of {supervisor.name} (allowed: {report.tolerance:g} on average)"
    )
    return "ok" if report.passed else "problem", detail


def memory_of_a_batch(settings: Settings) -> Answer:
    """What a pair and a picture keep for the backward pass, counted, and how many fit into what is free."""
    import psutil
    import torch

    from saga_ray.models import supervisors
    from saga_ray.models.encoder import Encoder
    from saga_ray.models.replay import replay

    supervisor = supervisors.load(settings.supervisor.path, settings.supervisor.precision)
    encoder = Encoder.start_of(supervisor, settings.encoder)
    size = settings.data.image_size
    images_BHWC = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    per_image = _kept_bytes(lambda: encoder.tower(images_BHWC), encoder) / len(images_BHWC)

    tokens = settings.rollout.max_new_tokens
    tokens_PGT = torch.full((1, settings.rollout.group_size, tokens), supervisor.eos_token_id)
    x_a_PND, x_b_PND = (_made_up_tokens(supervisor, 1).requires_grad_() for _ in range(2))
    per_pair = _kept_bytes(
        lambda: (
            replay(
                supervisor,
                x_a_PND,
                x_b_PND,
                tokens_PGT,
                torch.ones_like(tokens_PGT, dtype=torch.bool),
                style=settings.supervisor.prompt,
                layer=settings.distillation.layer if settings.distillation.weight > 0 else None,
                temperature=None,
                shared_prefix=settings.grpo.replay == "shared-prefix",
            ).logp_PGT
        ),
        supervisor,
    )
    on_gpu = settings.train.gpus_per_worker > 0 and torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if on_gpu else psutil.virtual_memory().available
    free_for_one = SHARE * free / (1 if on_gpu else settings.train.workers)
    rounds = settings.grpo.max_micro_batches if settings.train.tower_graph == "hold" else 1
    images = (
        settings.data.classes_per_batch * settings.data.images_per_class * rounds / settings.train.workers
    )
    needed = images * per_image + settings.train.replay_pairs * per_pair
    left = free_for_one - images * per_image
    detail = (
        f"an image keeps {per_image / 2**20:.0f} MiB, a pair {per_pair / 2**20:.0f} MiB "
        f"({settings.rollout.group_size} x {tokens} tokens); a worker holds {images:.0f} images and "
        f"{settings.train.replay_pairs} pairs, {needed / GIB:.2f} of {free_for_one / GIB:.1f} GiB; "
        f"train.replay_pairs may be {max(0, int(left / per_pair))}"
    )
    return "ok" if needed <= free_for_one else "problem", detail


def _made_up_tokens(supervisor: Any, pairs: int) -> Any:
    """x_PND of pictures that do not exist; parity and memory do not depend on what they show."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    shape = (pairs, supervisor.tokens_per_image, supervisor.token_width)
    return torch.randn(shape, generator=generator).abs()


def _kept_bytes(forward: Callable[[], Any], module: Any) -> int:
    """Bytes of the tensors that autograd keeps for a forward pass, weights not counted."""
    import torch

    weights = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = forward()  # keeps the graph, and with it every address, alive while counting
    assert held.requires_grad, "nothing is kept without gradient"
    return sum(kept.values())


PROBES: dict[str, Callable[[Settings], Answer]] = {
    "gpus": gpus,
    "ray": ray_starts,
    "faiss": faiss_finds,
    "mlflow": mlflow_store,
    "parity": engine_parity,
    "memory": memory_of_a_batch,
}


def main(name: str) -> int:
    """Run one probe."""
    settings = Settings.model_validate_json(sys.stdin.read())
    try:
        status, detail = PROBES[name](settings)
    except UserError as error:
        status, detail = "problem", str(error)
    print(json.dumps({"status": status, "detail": detail}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
