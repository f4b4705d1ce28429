"""The batch equation of a step: what its settings come to in pairs, sequences, pictures and tokens."""

from __future__ import annotations

from dataclasses import dataclass

from saga_ray.config.settings import Settings


@dataclass(frozen=True)
class BatchEquation:
    """Counts of one optimizer step over all workers; a step takes 1 to ``micro_batches`` micro-batches."""

    micro_batches: int
    pairs: int  # candidate pairs of a micro-batch
    informative_pairs: int  # pairs that a step replays at most
    group_size: int
    images: int  # pictures of a micro-batch
    max_new_tokens: int

    @classmethod
    def of(cls, settings: Settings) -> BatchEquation:
        """The equation of a run's settings."""
        return cls(
            micro_batches=settings.grpo.max_micro_batches,
            pairs=settings.data.pairs_per_batch,
            informative_pairs=settings.grpo.informative_pairs,
            group_size=settings.rollout.group_size,
            images=settings.data.classes_per_batch * settings.data.images_per_class,
            max_new_tokens=settings.rollout.max_new_tokens,
        )

    @property
    def sequences(self) -> int:
        """Completions sampled for a micro-batch: pairs x G."""
        return self.pairs * self.group_size

    @property
    def replayed_sequences(self) -> int:
        """Completions that a step replays at most: K x G."""
        return self.informative_pairs * self.group_size

    @property
    def tokens(self) -> int:
        """Tokens generated for a micro-batch at most."""
        return self.sequences * self.max_new_tokens

    @property
    def replayed_tokens(self) -> int:
        """Answer tokens that a step replays at most."""
        return self.replayed_sequences * self.max_new_tokens

    def lines(self) -> list[str]:
        """The equation as users read it."""
        most = self.micro_batches
        return [
            f"micro-batch  {self.pairs} pairs x {self.group_size} completions = "
            f"{self.sequences:,} sequences; {self.images:,} images; at most {self.tokens:,} generated tokens",
            f"step         1 to {most} micro-batches: at most {most * self.sequences:,} sequences, "
            f"{most * self.images:,} images, {most * self.tokens:,} generated tokens",
            f"replay       {self.informative_pairs} informative pairs x {self.group_size} completions = "
            f"{self.replayed_sequences:,} sequences, at most {self.replayed_tokens:,} answer tokens a step",
        ]
