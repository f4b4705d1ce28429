"""Settings of `saga supervisor train`: how a supervisor is made from a table of pictures with attribute columns: a
pocket one, or a projector in front of a language model of one's own.

Defaults are those that made the supervisor that ships, but for `bfloat16`, `parts` and `vocabulary`
(its card has the command). Widths and rates are a measured recipe, not the paper's: it takes a
pretrained model.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from saga_ray.config.settings import Count, Section, Seed, Share

OF_POCKET = {"width", "layers", "heads", "hidden", "rope_base", "likeness_weight", "own_answers"}
"""Settings that a language model of one's own has no use for."""
Rate = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]


class AlignmentSettings(Section):
    """One training of a supervisor."""

    seed: Seed = Field(1, description="seed of weights, views, pairs and samples")
    name: str | None = Field(None, description="name of the supervisor; none: that of its folder")
    parts: list[Literal["train", "extra"]] = Field(
        ["train", "extra"],
        min_length=1,
        description="parts of the data whose classes it learns from; an encoder trains on `train`, never on `extra`",
    )
    tower: str = Field(
        "furniture-pocket",
        description="supervisor whose tower is used, by name or folder, or the folder of a checkpoint of a vision model of "
        "transformers (DINOv2, DINOv3, SigLIP, SigLIP 2, CLIP and others that give a token a patch) or, with the extra "
        "[gpu], of timm; it stays frozen",
    )
    image_size: Count | None = Field(
        None,
        description="side in pixels of the pictures that a checkpoint's tower reads; none: as the checkpoint says",
    )
    language_model: str | None = Field(
        None,
        description="folder of a checkpoint of a language model with a chat template, which stays frozen: the projector in "
        "front of it is all that trains; none: a pocket one, trained from random weights",
    )
    vocabulary: str | None = Field(
        None,
        description="name or file of a vocabulary, for the names of the answer's keys; "
        "none: the one named like the data set, else a plain one",
    )
    width: Count = Field(256, description="width of the pocket language model")
    layers: Count = Field(4, description="its layers")
    heads: Count = Field(4, description="its attention heads")
    hidden: Count = Field(512, description="inner width of its SwiGLU")
    rope_base: Rate = Field(1000.0, description="base of the rotary positions")
    steps: Count = Field(1000, description="optimizer steps")
    pairs_per_step: Annotated[int, Field(ge=4, multiple_of=4)] = Field(
        40, description="pairs of a step: half same, a quarter different, a quarter different and hard"
    )
    hard_column: str | None = Field(
        None,
        description="different pairs are hard where their classes agree on this attribute; none: the first attribute",
    )
    rate: Rate = Field(1.5e-3, description="AdamW's largest rate; cosine to zero after the warm-up")
    warmup_share: Share = Field(0.05, description="share of the steps with a linearly rising rate")
    weight_decay: Amount = Field(0.1, description="AdamW's weight decay, on matrices")
    clip: Rate = Field(1.0, description="largest gradient norm")
    verdict_weight: Rate = Field(
        3.0, description="weight of the verdict among the answer's tokens, each of weight 1"
    )
    likeness_weight: Amount = Field(
        0.5,
        description="weight of a contrastive loss between the projected pictures of the same pairs; of a pocket one alone",
    )
    own_answers: Share = Field(
        0.75,
        description="share of the steps in which the context holds the model's own sampled answer while the targets stay "
        "true, so that the verdict learns to look at the pictures and not at the description alone; of a pocket one alone",
    )
    generic_every: Annotated[int, Field(ge=2)] = Field(
        4, description="every so many steps the generic style is trained"
    )
    views: Count = Field(
        5,
        description="augmented views of a picture whose tokens are computed beforehand, besides the plain one",
    )
    bank_gib: Rate = Field(
        2.0,
        description="memory for these tokens, in GiB; fewer views, then fewer pictures, where it is short",
    )
    crop_scale: Annotated[float, Field(gt=0, le=1)] = Field(
        0.6, description="smallest share of its area that a view keeps"
    )
    mixing: Share = Field(
        0.5,
        description="share of the pairs whose second picture's tokens are mixed with those of a picture that would turn the "
        "verdict round, the verdict's target with them (mixup)",
    )
    channel_noise: Amount = Field(
        0.5, description="spread of a random factor for each token channel, one for a pair"
    )
    channel_drop: Share = Field(
        0.4, description="share of the token channels that are dropped, the same for a pair"
    )
    token_noise: Amount = Field(
        0.5, description="spread of noise on each token, in units of the tokens' own spread"
    )
    check_every: Count = Field(
        100, description="steps between two looks at the validation classes; the best is kept"
    )
    check_pairs: Annotated[int, Field(ge=8, multiple_of=2)] = Field(
        400, description="random and hard pairs of such a look, each"
    )
    bfloat16: bool = Field(False, description="mixed precision; faster where the processor has it")
    threads: Count = Field(1, description="arithmetic threads")

    @model_validator(mode="after")
    def _fits_together(self) -> AlignmentSettings:
        if self.width % (2 * self.heads):
            raise ValueError(f"width={self.width} must be a multiple of 2 x heads={self.heads}")
        of_pocket = sorted(self.model_fields_set & OF_POCKET)
        if self.language_model is not None and of_pocket:
            raise ValueError(f"{of_pocket[0]} is a pocket language model's: leave it out, or language_model")
        return self
