"""Settings as flat texts."""

from __future__ import annotations

import json

from saga_ray.config.settings import Settings
from saga_ray.tracking.parameters import flatten, parameters


def test_tables_are_flattened_and_the_rest_is_text() -> None:
    flat = flatten({"data": {"flip": True, "root": None}, "arms": ["start"], "resources": {}})
    assert flat == {"data.flip": "true", "data.root": "null", "arms": '["start"]', "resources": "{}"}


def test_every_setting_is_there_and_can_be_read_back() -> None:
    flat = parameters(Settings())
    assert json.loads(flat["optimizer.beta2"]) == Settings().optimizer.beta2
    assert flat["data.source"] == "furniture"
    assert flat["tracking.uri"] == "null"


def test_the_store_s_password_is_left_out() -> None:
    settings = Settings.model_validate({"tracking": {"uri": "http://me:secret@host:5000"}})
    assert parameters(settings)["tracking.uri"] == "http://host:5000"
