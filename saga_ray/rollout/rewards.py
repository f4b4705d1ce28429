"""The reward of a completion: whether its verdict is right, and nothing else (SAGA, section 3)."""

from __future__ import annotations

from saga_ray.prompts.verdict import ParsedAnswer, parse_answer


def verdict_reward(answer: str | ParsedAnswer, same: bool, key: str) -> float:
    """1 if the verdict under `key` equals `same` (both images are of one class), else 0; unparsable is 0."""
    parsed = parse_answer(answer, key) if isinstance(answer, str) else answer
    return float(parsed.verdict is not None and parsed.verdict == same)
