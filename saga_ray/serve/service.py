"""What the endpoints share: limits, decoding, the backend, counting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypeVar

import numpy as np
from fastapi import Depends, Request

from saga_ray.config.serving import ServeSettings
from saga_ray.serve.admission import Budget
from saga_ray.serve.backend import Backend, Card, Pixels, WrongSize
from saga_ray.serve.errors import ApiError, InvalidPicture
from saga_ray.serve.gate import MIB
from saga_ray.serve.inputs import Fetcher, from_base64
from saga_ray.serve.metrics import Meter
from saga_ray.serve.pictures import Decoder

CARD_S = 2.0
"""How long an answer about the model is believed."""
TRIES = 3
"""For pictures that were decoded for a model that is being replaced by one of another picture size."""
Source = bytes | str
"""A picture as a client sent it: its bytes, or base64 or a data URL of them."""
T = TypeVar("T")


class Service:
    """One a replica of the HTTP layer."""

    def __init__(self, settings: ServeSettings, backend: Backend, meter: Meter) -> None:
        self.settings, self.backend, self.meter = settings, backend, meter
        self.fetch = Fetcher(settings.url_prefixes, int(settings.request_mib * MIB))
        self._decoder = Decoder(
            settings.formats, megapixels=settings.picture_megapixels, side=settings.picture_side
        )
        self._threads = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._pictures = Budget(settings.waiting_pictures)
        self._card: Card | None = None
        self._asked = 0.0

    async def card(self, *, fresh: bool = False) -> Card:
        """What is being served, as of a moment ago."""
        if fresh or self._card is None or time.monotonic() - self._asked > CARD_S:
            self._card = await self.backend.card()
            self._asked = time.monotonic()
        return self._card

    async def with_pictures(
        self,
        sources: Sequence[Source],
        call: Callable[[Pixels], Awaitable[T]],
        *,
        endpoint: str,
        params: Sequence[str],
    ) -> T:
        """What `call` gives for the pictures, which are decoded first; `params` names each in complaints.

        Raises ApiError for pictures that cannot be used, Full where there is no room.
        """
        with self._pictures.take(len(sources)):
            size = (await self.card()).image_size
            for _ in range(TRIES):
                images_BHWC = await self._decode(sources, size, params)
                try:
                    result = await call(images_BHWC)
                except WrongSize as replaced:
                    size = replaced.image_size
                    await self.card(fresh=True)
                else:
                    self.meter.pictures(endpoint, len(sources))
                    return result
        raise ApiError(
            503, "the model is being replaced; try again in a moment", headers={"Retry-After": "1"}
        )

    async def _decode(self, sources: Sequence[Source], size: int, params: Sequence[str]) -> Pixels:
        loop = asyncio.get_running_loop()
        jobs = [loop.run_in_executor(self._threads, self._decode_one, source, size) for source in sources]
        images = []
        try:
            for place, job in enumerate(jobs):
                try:
                    images.append(await job)
                except InvalidPicture as error:
                    self.meter.refused()
                    what = "the picture" if len(jobs) == 1 else f"picture {place}"
                    raise error.at(params[place], what) from None
        finally:
            for job in jobs:
                job.cancel()
        return np.stack(images)

    def _decode_one(self, source: Source, size: int) -> Pixels:
        return self._decoder(from_base64(source) if isinstance(source, str) else source, size)


def service_of(request: Request) -> Service:
    """The service that a request is for."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


ServiceHere = Annotated[Service, Depends(service_of)]
