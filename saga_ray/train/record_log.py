"""What carries step records from the workers to the driver; a module of its own, so that its actor loads no
torch.
"""

from __future__ import annotations

from typing import Any


class RecordLog:
    """Holds step records from rank 0 until the driver, the only one that writes to MLflow, takes them."""

    def __init__(self) -> None:
        self._records: list[dict[str, Any]] = []
        self._stopped = False

    def append(self, record: dict[str, Any]) -> bool:
        """Take a record; returns whether training is to go on."""
        self._records.append(record)
        return not self._stopped

    def stop(self) -> None:
        """Let training end after the next step."""
        self._stopped = True

    def drain(self) -> list[dict[str, Any]]:
        """Give the records that came since the last call."""
        records, self._records = self._records, []
        return records
