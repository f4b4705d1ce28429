"""Settings of `saga serve`: what is served, how much at once, for how long, on how many replicas.

They are flat, so that the same names are the arguments of `serve run` and of ``jobs/serve.yaml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from saga_ray.config.checking import check_as
from saga_ray.config.names import nearest
from saga_ray.config.overrides import apply
from saga_ray.config.settings import Count, Section

Amount = Annotated[float, Field(gt=0)]


class ServeSettings(Section):
    """One service: a model, perhaps an index of pictures to search, and limits."""

    model: str | None = Field(
        None,
        description="a model's folder, a run's folder or name, or models:/NAME@ALIAS in MLflow's registry",
    )
    index: str | None = Field(
        None, description="folder of an index that this model built, see `saga index build`; none: no search"
    )
    name: str | None = Field(
        None, description="what clients call the model; none: after its run, folder or registered name"
    )
    tracking_uri: str | None = Field(
        None, description="MLflow's store, for models:/… names; none: the one under $SAGA_HOME/runs"
    )
    token_file: str | None = Field(
        None, description="file with the bearer token that clients must send; none: no token is asked for"
    )

    request_mib: Amount = Field(
        32.0, description="largest body of a request, with the pictures that are fetched for it, in MiB"
    )
    request_pictures: Count = Field(256, description="most pictures and texts in a request")
    text_characters: Count = Field(
        10_000,
        description="most characters of a text or an instruction, beside the model's context",
    )
    picture_megapixels: Amount = Field(50.0, description="most pixels of a picture, in millions")
    picture_side: Count = Field(20_000, description="most pixels along a side of a picture")
    formats: list[str] = Field(
        default_factory=lambda: ["JPEG", "PNG", "WEBP", "GIF", "BMP"],
        description="formats of pictures that are read, by Pillow's names",
    )
    url_prefixes: list[str] = Field(
        default_factory=list,
        description="beginnings of the addresses that pictures may be fetched from, such as "
        "https://pictures.example/products/; none are by default",
    )
    neighbours: Count = Field(100, description="most neighbours that a search may ask for")

    waiting_requests: Count = Field(
        128, description="requests that an API replica works on at the same time; more get 429"
    )
    waiting_mib: Amount = Field(
        256.0,
        description="bodies, and pictures fetched for them, that an API replica holds at the same time, in "
        "MiB; more get 429",
    )
    waiting_pictures: Count = Field(
        1024,
        description="pictures and texts that wait in an API replica, and in a model replica; more get 429",
    )
    retry_after_s: Count = Field(1, description="when a client that got 429 is told to try again, in seconds")
    receive_s: Amount = Field(20.0, description="longest time that a client may take to send its request")
    request_s: Amount = Field(30.0, description="longest time that a request may take in all")

    batch_pictures: Count = Field(32, description="most pictures and texts that the model embeds at a time")
    batch_wait_ms: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="longest wait of a picture or text for others to be embedded with, while the model is "
        "idle; while it works the next batch gathers by itself",
    )
    apart: bool | None = Field(
        None,
        description="whether pictures are decoded on replicas of their own (API replicas) or where they are "
        "embedded; none: apart where model replicas have GPUs. On CPUs both want the same cores, and the way "
        "between two processes costs more than it gains",
    )
    decode_threads: Count = Field(2, description="pictures that an API replica decodes at the same time")
    threads: Count = Field(1, description="arithmetic threads of a model replica on CPU")
    api_replicas: Count = Field(
        1, description="API replicas at least: they read, check and decode; where they are apart"
    )
    most_api_replicas: Count = Field(4, description="API replicas at most; where they are apart")
    model_replicas: Count = Field(
        1, description="model replicas at least; each holds the model and the index"
    )
    most_model_replicas: Count = Field(1, description="model replicas at most")
    cpus_per_api: Amount = Field(
        1.0, description="logical CPUs that Ray keeps for an API replica; where they are apart"
    )
    cpus_per_model: Amount = Field(1.0, description="logical CPUs that Ray keeps for a model replica")
    gpus_per_model: Annotated[float, Field(ge=0)] = Field(
        0.0, description="GPUs of a model replica; 0 computes on CPU"
    )
    update_first: bool = Field(
        True,
        description="an update starts new replicas before it stops old ones, and waits until there is room "
        "for both: say false where all GPUs are taken",
    )

    @property
    def replicas_are_apart(self) -> bool:
        """See `apart`."""
        return self.gpus_per_model > 0 if self.apart is None else self.apart

    @field_validator("formats")
    @classmethod
    def _pillow_reads(cls, formats: list[str]) -> list[str]:
        from PIL import Image  # only where formats are given: `Image.init` loads all that Pillow knows

        if not formats:
            raise ValueError("name one format at least, such as JPEG")
        Image.init()
        for name in formats:
            if name.upper() not in Image.OPEN:
                meant = nearest(name, Image.OPEN)
                hint = f": did you mean {meant!r}?" if meant else ""
                raise ValueError(f"{name!r} is no format that Pillow reads{hint}")
        return [name.upper() for name in formats]

    @model_validator(mode="after")
    def _fits_together(self) -> ServeSettings:
        if self.request_pictures > self.waiting_pictures:
            raise ValueError(
                "request_pictures must be at most waiting_pictures, or no such request is ever served"
            )
        if self.request_mib > self.waiting_mib:
            raise ValueError("request_mib must be at most waiting_mib, or no such request is ever served")
        for name in ("api_replicas", "model_replicas"):
            if getattr(self, name) > getattr(self, f"most_{name}"):
                raise ValueError(f"most_{name} must be at least {name}")
        for prefix in self.url_prefixes:
            if not prefix.startswith(("https://", "http://")) or prefix.count("/") < 3:
                raise ValueError(
                    f"url_prefixes: {prefix!r} must have a scheme, a host and a slash after it, "
                    "such as https://pictures.example/"
                )
        return self


def resolve_serving(values: dict[str, Any], origin: str, overrides: Sequence[str] = ()) -> ServeSettings:
    """Settings of a service from plain values, then the overrides. Raises UserError."""
    values = dict(values)
    origins = {apply(values, override, ServeSettings): f"--set {override}" for override in overrides}
    return check_as(ServeSettings, values, origin, origins)
