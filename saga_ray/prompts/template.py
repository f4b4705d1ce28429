"""The instruction that asks a supervisor about two pictures (paper section 3).

The prompt's order is [X_a, X_b, instruction]: both pictures' tokens stand before this text. A large
supervisor reads the text as written here. The pocket supervisor is too small to read instructions: one
trained token stands for each style, and its answers keep this scheme without `confidence` and `reasoning`.
"""

from __future__ import annotations

from typing import Literal, assert_never, get_args

from saga_ray.prompts.vocabulary import Vocabulary

Style = Literal["attributes", "generic"]
"""`attributes`: role, attribute list and both descriptions. `generic`: differences, reasoning and verdict
alone (an ablation)."""

STYLES: tuple[Style, ...] = get_args(Style)


def instruction(vocabulary: Vocabulary, style: Style) -> str:
    """The instruction's text, without the pictures that stand before it."""
    first, second = vocabulary.item_keys
    question = vocabulary.verdict_question
    match style:
        case "attributes":
            expert = _article(vocabulary.expert)
            described = ", ".join(f'"{attribute}": "..."' for attribute in vocabulary.attributes)
            return "\n".join(
                [
                    f"You assist {expert} in telling {vocabulary.what} apart from photos.",
                    f"Specialists look at these attributes: {', '.join(vocabulary.attributes)}.",
                    f"You are given two photos: the first shows {first}, the second {second}.",
                    "Tasks:",
                    f'1. Describe {first} on every attribute, for example "{vocabulary.example}".',
                    f"2. Describe {second} on every attribute in the same way.",
                    "3. Summarise the key differences between them.",
                    f"4. Answer the question: {question}",
                    "Answer with one JSON object and nothing else, its keys in this order:",
                    f'{{"{first}": {{{described}}}, "{second}": {{{described}}}, "differences": "...", '
                    f'"confidence": "high" or "medium" or "low", "reasoning": "one sentence", '
                    f'"{vocabulary.verdict_key}": "yes" or "no"}}',
                ]
            )
        case "generic":
            return "\n".join(
                [
                    "You are given two photos.",
                    "Summarise the key differences between what they show, then answer the question: "
                    + question,
                    "Answer with one JSON object and nothing else, its keys in this order:",
                    f'{{"differences": "...", "reasoning": "one sentence", '
                    f'"{vocabulary.verdict_key}": "yes" or "no"}}',
                ]
            )
        case _:
            assert_never(style)


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
