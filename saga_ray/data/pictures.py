"""One picture's encoded bytes, wherever they are."""

from __future__ import annotations

from pathlib import Path

import fsspec  # type: ignore[import-untyped]

Source = str | bytes
"""A picture's encoded bytes, a path on disk, or an address that fsspec opens (`s3://…`)."""


def is_address(source: str) -> bool:
    """Whether a string is an address (`scheme://…`) and no path."""
    return "://" in source


def read_bytes(source: Source) -> bytes:
    """The encoded picture. Raises OSError (FileNotFoundError where nothing is there)."""
    if isinstance(source, bytes):
        return source
    if is_address(source):
        with fsspec.open(source, "rb") as file:
            content: bytes = file.read()
        return content
    return Path(source).read_bytes()
