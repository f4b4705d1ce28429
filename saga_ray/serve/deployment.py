"""The service on Ray Serve: API replicas that decode, model replicas on GPUs, one sum of their numbers. On
CPUs one kind of replica does both.

    serve run saga_ray.serve.deployment:build model=runs/demo index=pictures.index
    serve deploy jobs/serve.yaml

To deploy again under the same name is a rolling update: new replicas take over from old ones, and requests
that an old one has begun it also ends. Model and index live in one replica, so a search never compares
embeddings of two models, also not while both versions run side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from saga_ray.config.serving import ServeSettings, resolve_serving
from saga_ray.errors import UserError
from saga_ray.retrieval.index import Hit
from saga_ray.serve.app import create_app
from saga_ray.serve.backend import Backend, Card, Embedded, Full, Item, Refusal
from saga_ray.serve.backend import Numbers as Weights
from saga_ray.serve.errors import ApiError
from saga_ray.serve.metrics import Meter, Numbers
from saga_ray.serve.source import Pinned, pin

API, MODEL, SUMS = "Api", "Model", "Sums"
REPORT_EVERY_S = 2.0
TRIES = 3
"""For a call whose replica was lost: every call may be made again."""
SPARE_REQUESTS = 64
"""Requests above its limit that reach an API replica: health and metrics always do, others get its 429."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}


class Sums:
    """The service's numbers; see `saga_ray.serve.metrics`."""

    def __init__(self) -> None:
        self._total = Numbers()

    def add(self, new: Numbers) -> None:
        """Add what a replica counted."""
        self._total.add(new)

    def total(self) -> Numbers:
        """All that was counted."""
        return self._total


def _engine(model: Pinned, settings: ServeSettings, meter: Meter) -> Backend:
    from saga_ray.serve.engine import Engine  # replicas that only decode need no torch

    device = "cuda" if ray.get_gpu_ids() else "cpu"
    return Engine(model.fetch(), settings, name=model.name, device=device, meter=meter)


class Model:
    """A replica that computes. What `Backend` raises it gives back as a value: that is no failure to log."""

    def __init__(self, settings: dict[str, Any], model: Pinned, sums: DeploymentHandle[Any]) -> None:
        meter = Meter()
        self._engine = _engine(model, ServeSettings.model_validate(settings), meter)
        self._reporter = _Reporter(meter, sums)

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of `Backend`."""
        self._reporter.start()
        try:
            return await getattr(self._engine, method)(*arguments)
        except Refusal as refusal:
            return refusal


class Api:
    """A replica that speaks HTTP, checks and decodes; and computes, where it is given the model itself."""

    def __init__(
        self, settings: dict[str, Any], model: Pinned | DeploymentHandle[Any], sums: DeploymentHandle[Any]
    ) -> None:
        self._settings = ServeSettings.model_validate(settings)
        self._sums, self._meter = sums, Meter()
        self._token = read_token(self._settings)
        self._backend = (
            _engine(model, self._settings, self._meter) if isinstance(model, Pinned) else _Replicas(model)
        )

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """See `ray.serve.ingress`."""
        reporter = _Reporter(self._meter, self._sums)

        async def numbers() -> Numbers:
            await reporter.report()
            return cast("Numbers", await self._sums.total.remote())

        @contextlib.asynccontextmanager
        async def lifespan(app: object) -> AsyncIterator[None]:
            reporter.start()
            yield

        app = create_app(
            self._settings,
            self._backend,
            token=self._token,
            meter=self._meter,
            numbers=numbers,
            lifespan=lifespan,
        )
        return cast("ASGIApp", app)


class _Reporter:
    """Hands a replica's numbers on from time to time."""

    def __init__(self, meter: Meter, sums: DeploymentHandle[Any]) -> None:
        self._meter, self._sums = meter, sums
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if not yet begun; needs the replica's event loop."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def report(self) -> None:
        """Hand on what is new."""
        await self._sums.add.remote(self._meter.take())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            with contextlib.suppress(Exception):  # numbers are not worth a failed request
                await self.report()


class _Replicas:
    """`Backend`, by the model replicas."""

    def __init__(self, model: DeploymentHandle[Any]) -> None:
        self._model = model

    async def _ask(self, method: str, *arguments: Any) -> Any:
        for attempt in range(1, TRIES + 1):
            response = self._model.ask.remote(method, *arguments)
            try:
                answer = await response
            except BackPressureError:
                raise Full from None
            except DeploymentUnavailableError:
                raise ApiError(503, "the model cannot be served; the server's log says why") from None
            except RayActorError:
                if attempt == TRIES:
                    raise
            except asyncio.CancelledError:
                response.cancel()  # type: ignore[no-untyped-call]
                raise
            else:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        raise AssertionError

    async def card(self) -> Card:
        """See `Backend`."""
        return cast("Card", await self._ask("card"))

    async def embed(self, items: Sequence[Item]) -> Embedded:
        """See `Backend`."""
        return cast("Embedded", await self._ask("embed", items))

    async def attention(self, items: Sequence[Item]) -> Weights:
        """See `Backend`."""
        return cast("Weights", await self._ask("attention", items))

    async def search(self, items: Sequence[Item], k: int) -> list[list[Hit]]:
        """See `Backend`."""
        return cast("list[list[Hit]]", await self._ask("search", items, k))

    async def neighbours(self, id: str, k: int) -> list[Hit] | None:
        """See `Backend`."""
        return cast("list[Hit] | None", await self._ask("neighbours", id, k))

    async def thumbnail(self, id: str) -> bytes | None:
        """See `Backend`."""
        return cast("bytes | None", await self._ask("thumbnail", id))


def build(arguments: dict[str, Any]) -> serve.Application:
    """What Ray Serve deploys; the arguments are those of `ServeSettings`. Raises UserError."""
    return application(resolve_serving(arguments, "the application's args"))


def application(settings: ServeSettings) -> serve.Application:
    """The same, of checked settings. Raises UserError."""
    model = pin(settings)
    read_token(settings)
    absolute = settings.model_copy()
    for name in ("index", "token_file"):  # replicas work in folders of their own
        path = getattr(settings, name)
        if path is not None:
            setattr(absolute, name, str(Path(path).expanduser().absolute()))
    values = absolute.model_dump()
    sums = _deployment(Sums, SUMS, ray_actor_options={"num_cpus": 0}).bind()
    needs = {"num_cpus": settings.cpus_per_model, "num_gpus": settings.gpus_per_model}
    if not settings.replicas_are_apart:
        numbers = (settings.model_replicas, settings.most_model_replicas)
        return cast("serve.Application", _api(settings, numbers, needs).bind(values, model, sums))
    models = _deployment(
        Model,
        MODEL,
        **_replicas(settings.model_replicas, settings.most_model_replicas, 2 * settings.batch_pictures),
        ray_actor_options=needs,
        # the batches' own queue is the one that is full first
        max_ongoing_requests=settings.waiting_pictures,
        max_queued_requests=settings.waiting_pictures,
        **_replacing(settings),
    ).bind(values, model, sums)
    numbers = (settings.api_replicas, settings.most_api_replicas)
    api = _api(settings, numbers, {"num_cpus": settings.cpus_per_api})
    return cast("serve.Application", api.bind(values, models, sums))


def _api(settings: ServeSettings, numbers: tuple[int, int], needs: dict[str, float]) -> Any:
    """`numbers` of replicas, at least and at most."""
    return _deployment(
        serve.ingress()(Api),
        API,
        **_replicas(*numbers, settings.waiting_requests // 4 or 1),
        ray_actor_options=needs,
        max_ongoing_requests=settings.waiting_requests + SPARE_REQUESTS,
        # Ray's own 429 is the last resort: plain text, and before a replica has seen the request
        max_queued_requests=settings.waiting_requests + SPARE_REQUESTS,
        backpressure_config={"status_code": 429, "retry_after_s": settings.retry_after_s},
        **_replacing(settings),
    )


def _deployment(cls: type, name: str, **options: Any) -> Any:
    return serve.deployment(cls, name=name, logging_config=QUIET, **options)


def _replicas(least: int, most: int, target: int) -> dict[str, Any]:
    """`target`: requests that a replica works on when it is busy enough for another one to start."""
    if least == most:
        return {"num_replicas": least}
    return {
        "autoscaling_config": {
            "min_replicas": least,
            "max_replicas": most,
            "target_ongoing_requests": target,
            "upscale_delay_s": 5.0,
            "downscale_delay_s": 120.0,
        }
    }


def _replacing(settings: ServeSettings) -> dict[str, Any]:
    return {
        "max_surge_percent": 100 if settings.update_first else 0,
        # an old replica ends what it has begun
        "graceful_shutdown_timeout_s": settings.request_s + 5,
        "graceful_shutdown_wait_loop_s": 0.5,
    }


def read_token(settings: ServeSettings) -> str | None:
    """The token that clients must send, if any. Raises UserError."""
    if settings.token_file is None:
        return None
    try:
        token = Path(settings.token_file).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"token_file {settings.token_file} cannot be read: {error}") from error
    if len(token) < 8:
        raise UserError(f"token_file {settings.token_file} must hold a token of 8 characters at least")
    return token
