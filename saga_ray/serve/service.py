"""What the endpoints share: limits, decoding, the backend, counting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from saga_ray.config.serving import ServeSettings
from saga_ray.serve.admission import Budget
from saga_ray.serve.backend import Backend, BadText, Card, Item, Kind, Pixels, WrongSize
from saga_ray.serve.errors import ApiError, InvalidPicture, not_taken
from saga_ray.serve.inputs import Fetcher, from_base64
from saga_ray.serve.metrics import Meter
from saga_ray.serve.pictures import Decoder

CARD_S = 2.0
"""How long an answer about the model is believed."""
TRIES = 3
"""For pictures that were decoded for a model that is being replaced by one of another picture size."""
Source = bytes | str
"""A picture as a client sent it: its bytes, or base64 or a data URL of them."""
Fetch = Callable[[], Awaitable[bytes]]
"""Fetches a picture of which a client sent the address."""
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """One thing to embed as a client sent it: a picture, a text, or a picture with an instruction."""

    param: str
    """Names it, or its picture where it has one, in complaints."""
    source: Source | Fetch | None = None
    text: str | None = None

    @property
    def kind(self) -> Kind:
        """See `Item`."""
        if self.source is None:
            return "text"
        return "image" if self.text is None else "composed"

    @property
    def text_param(self) -> str:
        """Names its text."""
        return "instruction" if self.kind == "composed" else self.param


class Service:
    """One a replica of the HTTP layer."""

    def __init__(self, settings: ServeSettings, backend: Backend, meter: Meter) -> None:
        self.settings, self.backend, self.meter = settings, backend, meter
        self.fetch = Fetcher(settings.url_prefixes)
        self._decoder = Decoder(
            settings.formats, megapixels=settings.picture_megapixels, side=settings.picture_side
        )
        self._threads = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._items = Budget(settings.waiting_pictures)
        self._card: Card | None = None
        self._asked = 0.0

    async def card(self, *, fresh: bool = False) -> Card:
        """What is being served, as of a moment ago."""
        if fresh or self._card is None or time.monotonic() - self._asked > CARD_S:
            self._card = await self.backend.card()
            self._asked = time.monotonic()
        return self._card

    async def with_items(
        self, asked: Sequence[Asked], call: Callable[[list[Item]], Awaitable[T]], *, endpoint: str
    ) -> T:
        """What `call` gives for the items, whose texts are checked and whose pictures are fetched and decoded
        first.

        Raises ApiError for what cannot be used, Full where there is no room.
        """
        with self._items.take(len(asked)):
            card = await self.card()
            for place, each in enumerate(asked):
                if each.kind not in card.takes:
                    raise not_taken(each.kind, each.text_param)
                self._check_text(each, _named(asked, place))
            sources = [await each.source() if callable(each.source) else each.source for each in asked]
            size = card.image_size
            for _ in range(TRIES):
                items = await self._decode(asked, sources, size)
                try:
                    result = await call(items)
                except WrongSize as replaced:
                    size = replaced.image_size
                    await self.card(fresh=True)
                except BadText as error:
                    raise _bad_text(asked[error.place], _named(asked, error.place), error.reason) from error
                else:
                    self.meter.embedded(
                        endpoint,
                        pictures=sum(each.source is not None for each in asked),
                        texts=sum(each.text is not None for each in asked),
                    )
                    return result
        raise ApiError(
            503, "the model is being replaced; try again in a moment", headers={"Retry-After": "1"}
        )

    def _check_text(self, asked: Asked, name: str) -> None:
        if asked.text is None:
            return
        most = self.settings.text_characters
        if not asked.text.strip():
            raise _bad_text(asked, name, "is empty")
        if len(asked.text) > most:
            raise _bad_text(asked, name, f"has {len(asked.text):,} characters: it may have {most:,}")
        try:
            asked.text.encode()
        except UnicodeEncodeError as error:
            raise _bad_text(
                asked, name, f"is no valid Unicode: it has half a surrogate pair at {error.start}"
            ) from None

    async def _decode(
        self, asked: Sequence[Asked], sources: Sequence[Source | None], size: int
    ) -> list[Item]:
        loop = asyncio.get_running_loop()
        jobs = [
            None if source is None else loop.run_in_executor(self._threads, self._one, source, size)
            for source in sources
        ]
        items = []
        try:
            for place, (each, job) in enumerate(zip(asked, jobs, strict=True)):
                try:
                    items.append(Item(None if job is None else await job, each.text))
                except InvalidPicture as error:
                    self.meter.refused()
                    raise error.at(each.param, _named(asked, place)) from None
        finally:
            for job in jobs:
                if job is not None:
                    job.cancel()
        return items

    def _one(self, source: Source, size: int) -> Pixels:
        return self._decoder(from_base64(source) if isinstance(source, str) else source, size)


def _named(asked: Sequence[Asked], place: int) -> str:
    """One of several things in words, by its place among them."""
    what = "text" if asked[place].source is None else "picture"
    return f"the {what}" if len(asked) == 1 else f"{what} {place}"


def _bad_text(asked: Asked, name: str, reason: str) -> ApiError:
    if asked.kind == "composed":
        name = "the instruction"
    return ApiError(400, f"{name} {reason}", param=asked.text_param, code="invalid_text")


def service_of(request: Request) -> Service:
    """The service that a request is for."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


ServiceHere = Annotated[Service, Depends(service_of)]
