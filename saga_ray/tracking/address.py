"""Addresses of stores, fit to be shown: a tracking URI may hold a user name and a password."""

from __future__ import annotations

from urllib.parse import urlsplit


def without_password(uri: str) -> str:
    """The URI without user name and password."""
    return hide_password(uri, uri)


def hide_password(text: str, uri: str) -> str:
    """A text that may quote the URI, without its user name and password."""
    user, found, _ = urlsplit(uri).netloc.rpartition("@")
    return text.replace(f"{user}@", "") if found else text
