"""JSON answers: quick for long lists of numbers, and never an error for what a table's columns may hold."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic_core import to_json


class Json(Response):
    """Dates become text, NaN and infinity null, bytes base64, anything else unknown its text."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """See Starlette."""
        return to_json(content, inf_nan_mode="null", bytes_mode="base64", serialize_unknown=True)
