"""What an embedder is asked: images, texts and image + instruction, each "in one word" (InstructCIR, arXiv
2412.05756). The texts for images and composed queries are its released code's; the one for texts, and those
that name what is shown (FashionIQ), are E5-V's (arXiv 2407.12580).

The image stands before the text; a family puts both into its chat template.
"""

from __future__ import annotations


def image(thing: str = "") -> str:
    """An image, alone; `thing`: what every picture of the gallery shows, such as dress, if that is one
    thing."""
    if thing:
        return f"Describe this {thing} in one word based on its style:"
    return "Describe this image in one word:"


def text(sentence: str) -> str:
    """A caption, alone."""
    return f"{sentence}\nSummary above sentence in one word:"


def composed(instruction: str, thing: str = "") -> str:
    """An instruction, beside a reference image."""
    if thing:
        return (
            f"Change the style of this {thing} to {instruction}\n"
            f"Describe this modified {thing} in one word based on its style:"
        )
    return f'Modify this image with "{instruction}", describe modified image in one word:'
