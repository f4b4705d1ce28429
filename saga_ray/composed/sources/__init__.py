"""What composed retrieval trains on: one file a source, found by listing this folder.

A source's module has ``read(location) -> TrainingData``; the one called `folder` reads a user's own.
"""

from __future__ import annotations
