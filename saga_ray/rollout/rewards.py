"""The reward of a completion. The paper's is whether its verdict is right, nothing else (SAGA, section 3);
the other designs are there to be compared with it, which the paper leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass

from saga_ray.config.settings import RewardDesign
from saga_ray.prompts.verdict import ParsedAnswer, parse_answer

CONFIDENCE_KEY = "confidence"
STATED = {"high": 0.95, "medium": 0.75, "low": 0.55}
"""How probable an answer says that its verdict is right, by the word that it uses."""
UNSTATED = 0.75
"""The same of an answer that says nothing of the kind."""


@dataclass(frozen=True)
class Judged:
    """What a completion is worth."""

    reward: float
    right: bool
    """Its verdict is right."""
    parsed: bool
    """It has a verdict."""


@dataclass(frozen=True)
class Judge:
    """Reads the verdict under a key and rewards it by a design."""

    verdict_key: str
    design: RewardDesign = "verdict"

    def __call__(self, text: str, same: bool) -> Judged:
        """Of a completion about two images that are of one class, or not."""
        answer = parse_answer(text, self.verdict_key)
        return Judged(
            reward(answer, same, self.design), is_right(answer, same), parsed=answer.verdict is not None
        )


def is_right(answer: ParsedAnswer, same: bool) -> bool:
    """Whether there is a verdict and it equals `same`."""
    return answer.verdict is not None and answer.verdict == same


def reward(answer: ParsedAnswer, same: bool, design: RewardDesign = "verdict") -> float:
    """Between 0 and 1; 0 for an answer without a verdict.

    - ``verdict``: 1 if it is right, else 0 (the paper's).
    - ``parsed``: 1 if it is right, 1/2 if it is wrong: to answer at all is worth something.
    - ``confidence``: 1 less the squared distance (Brier, 1950) of the probability that the answer states for
      its verdict from whether it is right, so that to be sure and wrong costs most.
    """
    right = is_right(answer, same)
    if answer.verdict is None or design == "verdict":
        return float(right)
    if design == "parsed":
        return 1.0 if right else 0.5
    said = str((answer.payload or {}).get(CONFIDENCE_KEY)).strip().rstrip(".").casefold()
    return 1.0 - (STATED.get(said, UNSTATED) - float(right)) ** 2
