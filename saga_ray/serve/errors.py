"""Errors as OpenAI's clients expect them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from saga_ray.serve.backend import Full, Kind, NoAttention, NoIndex, NotTaken

log = logging.getLogger(__name__)
KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}


class ApiError(HTTPException):
    """An answer other than success: one sentence, and what it is about."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.param, self.code = param, code


class InvalidPicture(ApiError):
    """What was sent as a picture is none that can be read; the sentence begins with "the picture"."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(status, f"the picture {reason}", code="invalid_image")

    def at(self, param: str, what: str) -> ApiError:
        """The same, saying which of several pictures it is."""
        message = self.detail.replace("the picture", what, 1)
        return ApiError(self.status_code, message, param=param, code=self.code)


def not_taken(kind: Kind, param: str | None = None) -> ApiError:
    """The model embeds no such thing."""
    what = "to search with an instruction" if kind == "composed" else "for texts"
    return ApiError(
        404 if kind == "composed" else 400,  # an endpoint of its own is not there
        f"this model takes pictures and no text: {what}, serve a model that `saga cir train` made",
        param=param,
        code="no_text",
    )


def too_large(what: str, mib: float) -> ApiError:
    """A request is larger than allowed."""
    return ApiError(
        413, f"{what} is larger than {mib:g} MiB: send fewer or smaller pictures", code="too_large"
    )


def overloaded(retry_after_s: int) -> ApiError:
    """The queue is full."""
    return ApiError(
        429,
        "the server has as much to do as it can hold; try again in a moment",
        code="overloaded",
        headers={"Retry-After": str(retry_after_s)},
    )


def reply(error: HTTPException) -> JSONResponse:
    """The error as an answer."""
    status = error.status_code
    content = {
        "message": str(error.detail),
        "type": KINDS.get(status, "invalid_request_error"),
        "param": getattr(error, "param", None),
        "code": getattr(error, "code", None),
    }
    return JSONResponse({"error": content}, status, headers=dict(error.headers or {}))


def install(app: FastAPI, retry_after_s: int) -> None:
    """Let every error that an endpoint may raise become such an answer."""

    async def known(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return reply(error)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return reply(_first(error.errors()))

    async def full(_: Request, error: Exception) -> JSONResponse:
        return reply(overloaded(retry_after_s))

    async def no_index(_: Request, error: Exception) -> JSONResponse:
        return reply(ApiError(404, "this server has no index to search in", code="no_index"))

    async def not_taken_here(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, NotTaken)
        return reply(not_taken(error.kind))

    async def no_attention(_: Request, error: Exception) -> JSONResponse:
        words = "this model does not say where it looks: serve an encoder that `saga train` made"
        return reply(ApiError(404, words, code="no_attention"))

    async def unknown(_: Request, error: Exception) -> JSONResponse:
        # Starlette logs the traceback; clients learn nothing of the server's inside.
        return reply(ApiError(500, "the server failed on this request; its log says why"))

    app.add_exception_handler(HTTPException, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Full, full)
    app.add_exception_handler(NoIndex, no_index)
    app.add_exception_handler(NotTaken, not_taken_here)
    app.add_exception_handler(NoAttention, no_attention)
    app.add_exception_handler(Exception, unknown)


def _first(errors: Sequence[Any]) -> ApiError:
    """The first of a body's mistakes in one sentence; what the client sent is not repeated."""
    error = errors[0]
    place = [part for part in error["loc"] if part not in ("body", "query", "path")]
    if error["type"] == "json_invalid":
        return ApiError(400, f"the body is no JSON: {error.get('ctx', {}).get('error', 'it ends too early')}")
    param = ".".join(map(str, place)) or None
    if error["type"] == "missing":
        return ApiError(400, f"{param or 'the body'} is missing", param=param, code="missing")
    if error["type"] == "extra_forbidden":
        return ApiError(400, "the body has a field that this endpoint does not know", code="unknown_field")
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return ApiError(400, f"{param or 'the body'} is not as it should be: {message}", param=param)
