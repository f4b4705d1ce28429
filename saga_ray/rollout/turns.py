"""Waiting work of several runs, taken in turns: a run with much to ask does not keep the others waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class Turns(Generic[Key, Item]):
    """A queue for each key; the keys take turns, each key's own items stay in order."""

    def __init__(self) -> None:
        self._queues: dict[Key, deque[Item]] = {}
        """In the order of the turns."""

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, key: Key, item: Item) -> None:
        """Queue an item; a new key's turn comes last."""
        self._queues.setdefault(key, deque()).append(item)

    def peek(self) -> tuple[Key, Item]:
        """Whose turn it is, and with what."""
        key = next(iter(self._queues))
        return key, self._queues[key][0]

    def take(self) -> tuple[Key, Item]:
        """The same, taken out; the key's next turn is after all the others'."""
        key = next(iter(self._queues))
        queue = self._queues.pop(key)
        item = queue.popleft()
        if queue:
            self._queues[key] = queue
        return key, item

    def drop(self, key: Key, unwanted: Callable[[Item], bool] = lambda item: True) -> None:
        """Forget a key's items, all or some."""
        kept = deque(item for item in self._queues.get(key, ()) if not unwanted(item))
        if kept:
            self._queues[key] = kept
        else:
            self._queues.pop(key, None)
