"""Every setting of `saga cir train`: composed image retrieval in two stages (InstructCIR, arXiv 2412.05756).

The paper leaves LoRA's rank, rates, batches and epochs open; defaults are then those of E5-V (arXiv
2407.12580), on which it builds, and the field says "E5-V's". What neither states says "open".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from saga_ray.config.settings import (
    Count,
    EmbeddingSettings,
    RaySettings,
    Section,
    Seed,
    Share,
    TrackingSettings,
    WorkerSettings,
)

Rate = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]
STAGES = ("align", "instruct")
LOOKS = ("recall@1", "recall@5", "recall@10")
"""What a look at validation queries measures, of composed queries."""


class ComposedDataSettings(Section):
    """Captions and triplets to train on."""

    source: str = Field("furniture", description="a file of saga_ray/composed/sources that ships with data, or a folder with pictures, captions.jsonl (or LLaVA's JSON) and triplets.jsonl")
    decode_tasks: Count = Field(1, description="Ray Data tasks that decode at the same time, for each training worker")
    kept_tokens_gib: Amount = Field(1.0, description="memory of a worker for tokens of pictures that it has seen, since the frozen tower's never change; 0: encode every time")


class EmbedderSettings(Section):
    """The multimodal language model that becomes the embedder, and what trains of it."""

    supervisor: str = Field("furniture-pocket", description="name of a supervisor that ships, or a folder that holds one")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="arithmetic of the language model")
    end: bool = Field(False, description="append an end-of-sequence token and read the embedding there; open: the released evaluation appends none, other code of the author does")
    width: Count | None = Field(None, description="map the hidden state to this many numbers by a trained linear map; none: no map, as in the paper")
    nested_sizes: list[Count] = Field(default_factory=list, description="the losses hold for embeddings cut to these sizes too (Matryoshka, arXiv 2205.13147), so that a gallery may keep less")
    lora_rank: Count = Field(64, description="rank of the adapters on all linear maps of the language model; E5-V's")
    lora_alpha: Count = Field(16, description="their scale is alpha / rank; E5-V's")
    lora_dropout: Share = Field(0.05, description="dropout before them; E5-V's")


class StageSettings(Section):
    """What both stages have."""

    steps: Annotated[int, Field(ge=0)] = Field(1000, description="optimizer steps; 0 leaves the stage out; open (E5-V: 2 epochs)")
    batch: Annotated[int, Field(ge=2)] = Field(768, description="examples of a step over all workers, all of which are one another's negatives; E5-V's")
    chunk: Annotated[int, Field(ge=0)] = Field(32, description="prompts embedded at the same time: gradients are cached so that the batch is not bound by memory; 0: the whole batch at once, which saves a forward pass where it fits")
    rate: Rate = Field(4e-4, description="AdamW's largest rate; cosine to zero after the warm-up; E5-V's")
    warmup_share: Share = Field(0.05, description="share of the steps with a linearly rising rate; open")
    weight_decay: Amount = Field(0.0, description="AdamW's weight decay on matrices; open")
    clip: Rate = Field(1.0, description="largest global gradient norm; open")
    temperature: Rate = Field(0.05, description="cosines are divided by it; the paper's")


class AlignSettings(StageSettings):
    """Stage 1: each image finds its caption, so that the model learns to embed rather than to write."""

    two_sided: bool = Field(False, description="each caption finds its image too; the released loss has one direction")


class InstructSettings(StageSettings):
    """Stage 2: image + instruction finds what the instruction asks for."""

    caption_weight: Amount = Field(1.0, description="weight of the loss whose targets are the modified captions, with all original captions as further negatives; the paper's")
    image_weight: Amount = Field(0.0, description="weight of the same loss with target images and reference images, where the triplets have target images; the paper has none")


class ComposedEvaluationSettings(EmbeddingSettings):
    """Where the trained embedder is scored, where the source has queries of its own."""

    part: Literal["test", "validation"] = Field("test", description="whose queries and gallery: choose settings on `validation`, look at `test` last")
    validate_every: Annotated[int, Field(ge=0)] = Field(0, description="steps of the last stage between two scores of composed queries on validation, and one at its end; 0: none")


class ComposedSettings(Section):
    """A run."""

    name: str = Field("cir", description="name of the run, of its folder and of its MLflow run")
    seed: Seed = Field(1, description="seed of everything: adapters, dropout, order of the examples")
    data: ComposedDataSettings = Field(default_factory=ComposedDataSettings)
    embedder: EmbedderSettings = Field(default_factory=EmbedderSettings)
    align: AlignSettings = Field(default_factory=AlignSettings)
    instruct: InstructSettings = Field(default_factory=InstructSettings)
    train: WorkerSettings = Field(default_factory=WorkerSettings)
    evaluation: ComposedEvaluationSettings = Field(default_factory=ComposedEvaluationSettings)
    tracking: TrackingSettings = Field(default_factory=TrackingSettings)
    ray: RaySettings = Field(default_factory=RaySettings)

    @property
    def custom_resources(self) -> set[str]:
        """Names of the custom Ray resources that workers ask for."""
        return set(self.train.resources)

    @property
    def trained(self) -> dict[str, int]:
        """The stages that train, one after the other, with their steps."""
        return {name: steps for name in STAGES if (steps := self.stage(name).steps)}

    @model_validator(mode="after")
    def _fits_together(self) -> ComposedSettings:
        for name in STAGES:
            batch = self.stage(name).batch
            if batch % self.train.workers:
                raise ValueError(f"train.workers={self.train.workers} does not divide {name}.batch={batch}")
        if self.instruct.steps and not self.instruct.caption_weight + self.instruct.image_weight:
            raise ValueError("instruct.caption_weight and instruct.image_weight are both 0: stage 2 would learn nothing")
        if not self.align.steps + self.instruct.steps:
            raise ValueError("align.steps and instruct.steps are both 0: there is nothing to train")
        if self.embedder.width and any(size > self.embedder.width for size in self.embedder.nested_sizes):
            raise ValueError(f"embedder.nested_sizes has more than embedder.width={self.embedder.width}")
        return self

    def stage(self, name: str) -> AlignSettings | InstructSettings:
        """The settings of a stage."""
        stages: dict[str, AlignSettings | InstructSettings] = {"align": self.align, "instruct": self.instruct}
        return stages[name]
