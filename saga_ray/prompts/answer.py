"""The answer that the instruction asks for, where the truth is known: what a model's own words are replaced
by when it is taught.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from saga_ray.prompts.template import Style
from saga_ray.prompts.vocabulary import Vocabulary

NO_DIFFERENCE = "none"


def true_answer(
    vocabulary: Vocabulary, style: Style, a: Mapping[str, str], b: Mapping[str, str], same: bool
) -> str:
    """The JSON object that `saga_ray.prompts.template` asks for. `a` and `b`: attribute to value."""
    differing = [attribute for attribute in vocabulary.attributes if a[attribute] != b[attribute]]
    differences = ", ".join(differing) or NO_DIFFERENCE
    reasoning = f"They differ in {differences}." if differing else "They agree in all that is described."
    keys = answer_keys(vocabulary, style)
    said: dict[str, object] = dict.fromkeys(keys)
    if style == "attributes":
        said |= dict(zip(vocabulary.item_keys, (dict(a), dict(b)), strict=True))
        said["confidence"] = "high"
    said |= {"differences": differences, "reasoning": reasoning}
    said[vocabulary.verdict_key] = "yes" if same else "no"
    return json.dumps(said, ensure_ascii=False)


def answer_keys(vocabulary: Vocabulary, style: Style) -> list[str]:
    """The answer's keys in their order."""
    if style == "generic":
        return ["differences", "reasoning", vocabulary.verdict_key]
    return [*vocabulary.item_keys, "differences", "confidence", "reasoning", vocabulary.verdict_key]
