"""What every request passes before an endpoint sees it: token, body size, room, time; and is counted.

Plain ASGI, so that a body is refused while it arrives and not when it is all in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saga_ray.config.serving import ServeSettings
from saga_ray.serve.admission import Budget
from saga_ray.serve.backend import Full
from saga_ray.serve.errors import ApiError, overloaded, reply, too_large
from saga_ray.serve.held import HELD, MIB, Held
from saga_ray.serve.metrics import Meter

WITHOUT_TOKEN = ("/", "/healthz", "/readyz", "/docs", "/openapi.json")
"""Nothing about the pictures is seen here; the page asks for the token itself."""
NOT_LIMITED = ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/metrics")
"""What must answer when the service is busiest."""
PAGE = "/page/"


class Gate:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, token: str | None, meter: Meter) -> None:
        self._app, self._settings, self._meter = app, settings, meter
        self._token = None if token is None else _digest(token)
        self._largest = int(settings.request_mib * MIB)
        self._requests = Budget(settings.waiting_requests)
        self._bytes = Budget(settings.waiting_mib * MIB)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self._pass(scope, receive, noting)
        finally:
            # Known only once the request was routed, and then one of few: a stranger's paths make no series.
            endpoint = getattr(scope.get("route"), "path", "other")
            self._meter.request(endpoint, status, time.perf_counter() - began)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if path in NOT_LIMITED or path.startswith(PAGE):
            try:
                self._check_token(scope, path)
            except ApiError as error:
                await reply(error)(scope, receive, send)
                return
            await self._app(scope, receive, send)
            return
        try:
            self._check_token(scope, path)
            size = self._size(scope)
            with self._requests.take(), self._bytes.take(size) as share:
                scope[HELD] = held = Held(share, self._settings.request_mib)
                await _Timed(self._app, self._settings, held)(scope, receive, send)
        except Full:
            await reply(overloaded(self._settings.retry_after_s))(scope, receive, send)
        except ApiError as error:
            await reply(error)(scope, receive, send)

    def _check_token(self, scope: Scope, path: str) -> None:
        if self._token is None or path in WITHOUT_TOKEN or path.startswith(PAGE):
            return
        given = _header(scope, b"authorization") or b""
        kind, _, token = given.partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), self._token):
            return
        raise ApiError(
            401,
            "a bearer token is needed: send the header Authorization: Bearer TOKEN"
            if not given
            else "the token is not the right one",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _size(self, scope: Scope) -> int:
        """The body's size as declared; the largest allowed where it is not."""
        declared = _header(scope, b"content-length")
        if declared is None:
            return self._largest if _header(scope, b"transfer-encoding") else 0
        if not declared.isdigit():
            raise ApiError(400, "the header Content-Length is no number")
        if int(declared) > self._largest:
            raise too_large("the body", self._settings.request_mib)
        return int(declared)


class _Timed:
    """Passes one request on with its limits of time and size; see `Gate`."""

    def __init__(self, app: ASGIApp, settings: ServeSettings, held: Held) -> None:
        self._app, self._settings, self._held = app, settings, held
        self._complete, self._started = False, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline = asyncio.get_running_loop().time() + self._settings.receive_s

        async def limited() -> Message:
            if self._complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise ApiError(
                    408, f"the body did not arrive within {self._settings.receive_s:g} s", code="timeout"
                ) from None
            self._complete = not message.get("more_body", False)
            self._held.add(len(message.get("body", b"")))
            return message

        async def noting(message: Message) -> None:
            self._started = True
            await send(message)

        try:
            async with asyncio.timeout(self._settings.request_s) as limit:
                await self._app(scope, limited, noting)
        except TimeoutError:
            if not limit.expired() or self._started:
                raise
            raise ApiError(
                504, f"the request took more than {self._settings.request_s:g} s", code="timeout"
            ) from None


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def _digest(token: str | bytes) -> bytes:
    return hashlib.sha256(token if isinstance(token, bytes) else token.encode()).digest()
