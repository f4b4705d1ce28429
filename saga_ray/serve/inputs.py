"""What clients write where a picture is meant: a data URL, base64, an address. All become bytes."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes, urlsplit

import aiohttp

from saga_ray.serve.errors import ApiError, InvalidPicture
from saga_ray.serve.held import Held

DATA_URL = re.compile(r"data:(?P<kind>[^;,]*)(?:;[^;,]*)*?(?P<base64>;base64)?,", re.ASCII)
FETCH_S = 10.0
"""Longest time that another server may take to give a picture."""


def is_data_url(text: str) -> bool:
    """Whether a text is meant as a data URL."""
    return text[:5].lower() == "data:"


def is_address(text: str) -> bool:
    """Whether a text is meant as an address to fetch."""
    return text[:8].lower().startswith(("http://", "https://"))


def from_data_url(text: str) -> bytes:
    """The bytes of ``data:image/…;base64,…``. Raises InvalidPicture."""
    head = DATA_URL.match(text[:200])
    if head is None or not head["kind"].lower().startswith("image/"):
        raise InvalidPicture("is not given as it should be: data:image/…;base64,… is expected")
    rest = text[head.end() :]
    if head["base64"] is None:
        try:
            return unquote_to_bytes(rest)
        except UnicodeEncodeError:
            raise InvalidPicture("is no valid data URL") from None
    return from_base64(rest)


def from_base64(text: str) -> bytes:
    """Bytes of plain base64 or of a data URL. Raises InvalidPicture."""
    if is_data_url(text):
        return from_data_url(text)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidPicture("is not valid base64") from None


class Fetcher:
    """Fetches pictures from addresses that begin with an allowed prefix, and from no others."""

    def __init__(self, prefixes: list[str]) -> None:
        self._prefixes = prefixes

    async def __call__(self, address: str, held: Held) -> bytes:
        """The bytes at an address, which the request then holds. Raises ApiError, and Full for no room."""
        if not self._allowed(address):
            raise ApiError(
                400,
                "pictures are not fetched from this address: send the picture itself, "
                "as data:image/…;base64,…",
                code="url_not_allowed",
            )
        try:
            limit = aiohttp.ClientTimeout(total=FETCH_S)
            async with (
                aiohttp.ClientSession(timeout=limit, trust_env=False) as session,
                # No redirects: they could lead to where the list does not.
                session.get(address, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise InvalidPicture(f"could not be fetched: its server answered {answer.status}")
                content = bytearray()
                async for chunk in answer.content.iter_chunked(1 << 16):
                    held.add(len(chunk), "the body with the pictures fetched for it")
                    content += chunk
                return bytes(content)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            raise InvalidPicture("could not be fetched from its address") from None

    def _allowed(self, address: str) -> bool:
        """Compares what will really be asked for: no user name, no way up out of the prefix."""
        try:
            parts = urlsplit(address)
            plain = not (parts.username or parts.password) and "\\" not in address
        except ValueError:
            return False
        path = parts.path.lower()
        climbs = "/.." in path or "%2e" in path or "%2f" in path or "%5c" in path
        return plain and not climbs and any(address.startswith(prefix) for prefix in self._prefixes)
