"""Random streams that depend on nothing but their key, so that every process draws the same."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """A fresh generator for a key, such as (seed, "pairs", 7); unequal keys give unrelated streams."""
    words = np.frombuffer(hashlib.sha256(repr(key).encode()).digest(), dtype=np.uint32)
    return np.random.default_rng(np.random.SeedSequence(words.tolist()))
