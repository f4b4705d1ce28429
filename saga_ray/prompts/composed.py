"""What an embedder is asked: images, texts and image + instruction, each "in one word" (InstructCIR, arXiv
2412.05756; the texts for images and composed queries are its released code's, the one for texts is E5-V's).

The image stands before the text; a family puts both into its chat template.
"""

from __future__ import annotations

IMAGE = "Describe this image in one word:"


def text(sentence: str) -> str:
    """A caption, alone."""
    return f"{sentence}\nSummary above sentence in one word:"


def composed(instruction: str) -> str:
    """An instruction, beside a reference image."""
    return f'Modify this image with "{instruction}", describe modified image in one word:'
