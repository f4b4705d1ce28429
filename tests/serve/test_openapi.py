"""The OpenAPI document is true: schemathesis asks what it allows and what it forbids."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serve.cases import base64_of, data_url, png

TRUE = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FORBIDDEN = [*TRUE, negative_data_rejection]
ENDPOINTS = [
    "POST /v1/embeddings",
    "POST /embed",
    "POST /attention",
    "POST /search",
    "POST /compose",
    "GET /thumbnails/{id}",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "GET /models",
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /docs",
]


@pytest.fixture(scope="module")
def document(app: Any) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.fixture(scope="module")
def composing_document(composing: Any) -> Any:
    """That of a server whose model takes texts and instructions."""
    return schemathesis.openapi.from_asgi("/openapi.json", composing)


def test_these_endpoints_are_documented(document: Any) -> None:
    found = [result.ok() for result in document.get_all_operations()]
    assert {f"{each.method.upper()} {each.path}" for each in found} == set(ENDPOINTS)


CASES = [
    *((endpoint, GenerationMode.POSITIVE) for endpoint in ENDPOINTS),
    # the others take nothing that could be wrong
    *((endpoint, GenerationMode.NEGATIVE) for endpoint in ENDPOINTS[:4]),
]


@pytest.mark.parametrize("endpoint, mode", CASES)
def test_every_answer_is_as_documented(document: Any, endpoint: str, mode: GenerationMode) -> None:
    ask_at_random(document, endpoint, mode)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("endpoint", ["POST /v1/embeddings", "POST /search", "POST /compose", "POST /embed"])
def test_every_answer_of_a_composing_model_is_as_documented(
    composing_document: Any, endpoint: str, mode: GenerationMode
) -> None:
    ask_at_random(composing_document, endpoint, mode)


def ask_at_random(document: Any, endpoint: str, mode: GenerationMode) -> None:
    """Ask what the document allows, or what it forbids."""
    method, path = endpoint.split()
    operation = document[path][method]

    @settings(
        max_examples=40,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        assume(mode is GenerationMode.POSITIVE or not has_texts_in_a_form(case))
        checks = FORBIDDEN if mode is GenerationMode.NEGATIVE else TRUE
        case.validate_response(case.call(), checks=checks)

    ask()


def has_texts_in_a_form(case: schemathesis.Case) -> bool:
    """What the schema forbids there may be right: in a form all values are texts, one is a list of one."""
    form = case.media_type == "multipart/form-data" and isinstance(case.body, dict)
    return form and "texts" in case.body


@pytest.mark.parametrize(
    "endpoint, body",
    [
        ("POST /v1/embeddings", {"input": [data_url(png())], "model": "tiny"}),
        ("POST /v1/embeddings", {"input": {"image": base64_of(png())}, "encoding_format": "base64"}),
        ("POST /search", {"image": base64_of(png()), "k": 3}),
        ("POST /search", {"id": "p/1"}),
    ],
)
def test_success_is_as_documented(document: Any, endpoint: str, body: dict[str, Any]) -> None:
    must_succeed(document, endpoint, body)


@pytest.mark.parametrize(
    "endpoint, body",
    [
        ("POST /v1/embeddings", {"input": ["a red chair", data_url(png())], "dimensions": 16}),
        ("POST /search", {"text": "a red chair", "k": 3}),
        ("POST /compose", {"image": base64_of(png()), "instruction": "in red", "k": 3}),
        ("POST /compose", {"id": "p/1", "instruction": "in red"}),
    ],
)
def test_success_of_a_composing_model_is_as_documented(
    composing_document: Any, endpoint: str, body: dict[str, Any]
) -> None:
    must_succeed(composing_document, endpoint, body)


def must_succeed(document: Any, endpoint: str, body: dict[str, Any]) -> None:
    """An answer of 200, as documented."""
    method, path = endpoint.split()
    case = document[path][method].Case(body=body, media_type="application/json")
    response = case.call()
    assert response.status_code == 200, response.text
    case.validate_response(response, checks=TRUE)
