"""What carries step records from the workers to the driver; a module of its own, so that its actor loads no
torch.
"""

from __future__ import annotations

from typing import Any


class RecordLog:
    """Holds step records from rank 0 until the driver, the only one that writes to MLflow, takes them."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []

    def append(self, record: dict[str, Any]) -> None:
        """Take a record."""
        self._records.append(record)

    def drain(self) -> list[dict[str, Any]]:
        """Give the records that came since the last call."""
        records, self._records = self._records, []
        return records
