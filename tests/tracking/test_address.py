"""A password in a tracking address is never shown."""

from __future__ import annotations

import pytest

from saga_ray.tracking.address import hide_password, without_password


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://host:5000/path", "http://host:5000/path"),
        ("https://me:secret@host:5000", "https://host:5000"),
        ("postgresql://me:p%40ss@db/mlflow", "postgresql://db/mlflow"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("null", "null"),
    ],
)
def test_address_is_shown_without_user_and_password(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_a_message_that_quotes_the_address_is_cleaned() -> None:
    message = "GET http://me:secret@host:9/api failed (host='host')"
    assert hide_password(message, "http://me:secret@host:9") == "GET http://host:9/api failed (host='host')"
