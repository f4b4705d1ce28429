"""Bodies of requests and answers, as the OpenAPI document shows them.

Where clients may write a picture in several ways the document says so and `saga_ray.serve.routes` checks it,
so that each mistake gets a sentence of its own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from saga_ray.serve.backend import Kind

ONE_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
"""A picture to try with."""
DATA_URL = {
    "type": "string",
    "pattern": "^data:image/",
    "description": "data:image/…;base64,…",
    "examples": [f"data:image/png;base64,{ONE_PIXEL}"],
}
IMAGE_OBJECT = {
    "type": "object",
    "properties": {"image": {"type": "string", "description": "base64, or a data URL"}},
    "required": ["image"],
    "additionalProperties": False,
}
TEXT = {"type": "string", "minLength": 1, "description": "a text, where the model takes texts"}
ITEM = {"anyOf": [DATA_URL, IMAGE_OBJECT, TEXT]}


class Request(BaseModel):
    """Unknown fields are refused, as OpenAI does."""

    model_config = ConfigDict(extra="forbid")


class EmbeddingsRequest(Request):
    """OpenAI's request, whose input may be pictures."""

    input: Annotated[
        Any, WithJsonSchema({"anyOf": [*ITEM["anyOf"], {"type": "array", "items": ITEM, "minItems": 1}]})
    ] = Field(description="a picture or a text, or a list of these")
    model: str | None = Field(None, description="the id that /models gives; it may be left out")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="numbers, or base64 of 32-bit floats, least significant byte first"
    )
    dimensions: int | None = Field(
        None,
        ge=1,
        description="keep so many of the first numbers and normalise again; the model is not made for it, "
        "unless it was trained with such nested sizes",
    )
    user: str | None = Field(None, description="not used")


class SearchRequest(Request):
    """A picture, a text or a row of the index, whose neighbours are wanted."""

    image: str | None = Field(None, description="base64, or a data URL")
    text: str | None = Field(None, description="what to look for, where the model takes texts")
    id: str | None = Field(None, description="a row of the index; it is not its own neighbour")
    k: int = Field(10, ge=1, description="how many")


class ComposeRequest(Request):
    """A picture, or a row of the index, and what is to be different."""

    image: str | None = Field(None, description="base64, or a data URL")
    id: str | None = Field(None, description="a row of the index, which is left out")
    instruction: str = Field(description="what is to be different, such as: in red")
    k: int = Field(10, ge=1, description="how many")


class Problem(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(BaseModel):
    """Every answer but success."""

    error: Problem


class Usage(BaseModel):
    """What the model read: patches of pictures, and words."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """One item's, in the place where it stood in the request."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsReply(BaseModel):
    """OpenAI's answer."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: Usage


class PlainEmbedding(BaseModel):
    """One file's or text's: the files in their order, then the texts."""

    index: int
    embedding: list[float]


class EmbedReply(BaseModel):
    """Embeddings of the files and texts."""

    model: str
    data: list[PlainEmbedding]


class HitReply(BaseModel):
    """A row of the index."""

    id: str
    score: float
    label: str
    metadata: dict[str, Any]
    thumbnail: str


class SearchReply(BaseModel):
    """Neighbours, best first."""

    model: str
    hits: list[HitReply]


class AttentionReply(BaseModel):
    """Where the encoder looked: weights of the patches, row by row from the top left, sum 1."""

    rows: int
    columns: int
    weights: list[float]


class IndexReply(BaseModel):
    """The index that is searched."""

    size: int
    kind: str


class ModelReply(BaseModel):
    """What is served. It accepts pictures, perhaps texts, and `composed`: a picture with an instruction;
    `attention`: whether it says where it looked.
    """

    id: str
    image_size: int
    embedding_size: int
    hash: str
    accepts: list[Kind]
    attention: bool
    index: IndexReply | None


class ModelsReply(BaseModel):
    """What is served."""

    data: list[ModelReply]


class OpenAIModel(BaseModel):
    """OpenAI's shape."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(BaseModel):
    """OpenAI's shape."""

    object: Literal["list"]
    data: list[OpenAIModel]


class Status(BaseModel):
    """A word."""

    status: str
