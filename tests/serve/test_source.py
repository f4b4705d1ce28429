"""A model is found in a folder, a run and a registry, is pinned, and must fit its index."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from saga_ray.cli import main
from saga_ray.composed.embedder import Embedder
from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.serving import ServeSettings, resolve_serving
from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.retrieval.index import encoder_hash
from saga_ray.serve import models
from saga_ray.serve.deployment import application, read_token
from saga_ray.serve.engine import Engine
from saga_ray.serve.run import is_loopback
from saga_ray.serve.source import pin
from saga_ray.tracking.mlflow import Tracker
from tests.serve.cases import WIDTH, save_encoder
from tests.tiny import PIXELS


def settings(model: Path | str, **others: Any) -> ServeSettings:
    return ServeSettings(model=str(model), **others)


def test_a_folder_and_a_run_are_found_and_named(model: Path, tmp_path: Path) -> None:
    pinned = pin(settings(model))
    assert (pinned.name, pinned.fetch(), pinned.hash) == ("model", model, encoder_hash(model))
    run = tmp_path / "products"
    shutil.copytree(model, run / "arms/saga/model")
    (run / "settings.json").write_text(json.dumps(Settings().model_dump()))
    assert pin(settings(run)).name == "products-saga"
    assert pin(settings(run, name="mine")).name == "mine"


def test_a_model_that_changed_after_it_was_pinned_is_not_served(tmp_path: Path) -> None:
    pinned = pin(settings(save_encoder(tmp_path / "model")))
    save_encoder(tmp_path / "model", seed=1)
    with pytest.raises(UserError, match="has changed since it was deployed"):
        pinned.fetch()
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(UserError, match="is not on this machine"):
        pinned.fetch()


def test_an_index_of_another_encoder_is_refused(model: Path, index: Path, tmp_path: Path) -> None:
    other = save_encoder(tmp_path / "other", seed=1)
    assert pin(settings(model, index=str(index)))
    for refused in (pin, lambda own: Engine(other, own)):
        with pytest.raises(UserError, match="built by another model"):
            refused(settings(other, index=str(index)))
    with pytest.raises(UserError, match="holds no index"):
        pin(settings(model, index=str(tmp_path)))


def test_an_alias_of_the_registry_is_pinned_to_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path / "home"))
    own = Settings.model_validate({"tracking": {"system_metrics": False}})
    folders = [save_encoder(tmp_path / f"model{seed}", seed) for seed in (0, 1)]
    with Tracker.start(own, tmp_path / "runs", nodes=1) as tracker, tracker.arm("saga", own) as arm:
        store = tracker.uri
        for folder in folders:
            uri = arm.log_encoder(folder, image_size=PIXELS, embedding_size=WIDTH)
            mlflow.register_model(uri, "products")
    client = mlflow.MlflowClient(tracking_uri=store)
    client.set_registered_model_alias("products", "champion", "1")
    wanted = settings("models:/products@champion", tracking_uri=store)
    first = pin(wanted)
    client.set_registered_model_alias("products", "champion", "2")
    second = pin(wanted)
    assert (first.name, first.registered) == ("products", ("products", "1"))
    for version, folder in zip((first, second), folders, strict=True):
        assert encoder_hash(version.fetch()) == encoder_hash(folder)
    assert pin(settings("models:/products/1", tracking_uri=store)) == first
    for wrong, words in (
        ("models:/products@nobody", "nobody"),
        ("models:/nothing/1", "nothing"),
        ("models:/products", "models:/NAME@ALIAS"),
    ):
        with pytest.raises(UserError, match=words):
            pin(settings(wrong, tracking_uri=store))


@pytest.mark.filterwarnings("ignore:.*Add type hints")
def test_an_embedder_of_the_registry_is_served_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path / "home"))
    own = Settings.model_validate({"tracking": {"system_metrics": False}})
    Embedder(supervisors.load("furniture-pocket"), width=16).save(tmp_path / "model")
    with Tracker.start(own, tmp_path / "runs", nodes=1) as tracker, tracker.arm("align", own) as arm:
        uri = arm.log_embedder(tmp_path / "model", embedding_size=16)
        mlflow.register_model(uri, "composing")
        other = mlflow.pyfunc.log_model(
            name="other", python_model=lambda model_input: model_input, pip_requirements=[]
        )
        mlflow.register_model(other.model_uri, "foreign")
    found = pin(settings("models:/composing/1", tracking_uri=tracker.uri))
    served = models.load(found.fetch(), "cpu")
    assert set(served.takes) == {"image", "text", "composed"} and served.embedding_size == 16
    with pytest.raises(UserError, match="version 1 of foreign in .* is no model of saga's"):
        pin(settings("models:/foreign/1", tracking_uri=tracker.uri))


@pytest.mark.parametrize(
    "values, words",
    [
        ({"modle": "x"}, "did you mean 'model'"),
        ({"request_pictures": 2000}, "request_pictures must be at most waiting_pictures"),
        ({"request_mib": 1000.0}, "request_mib must be at most waiting_mib"),
        ({"api_replicas": 9}, "most_api_replicas must be at least"),
        ({"url_prefixes": ["pictures.example"]}, "url_prefixes"),
        ({"url_prefixes": ["https://pictures.example"]}, "a slash after it"),
        ({"batch_pictures": 0}, "batch_pictures = 0"),
        ({"formats": ["png", "JPG"]}, "formats in a test .* 'JPG' is no format .*: did you mean 'JPEG'"),
        ({"formats": ["heic-sequence"]}, "'heic-sequence' is no format that Pillow reads$"),
        ({"formats": []}, "formats in a test is not allowed: name one format at least"),
    ],
)
def test_wrong_settings_are_one_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolve_serving(values, "a test")


def test_formats_may_be_written_in_small_letters() -> None:
    assert resolve_serving({"formats": ["png", "Tiff"]}, "a test").formats == ["PNG", "TIFF"]


def test_overrides_win_over_what_is_given() -> None:
    own = resolve_serving(
        {"model": "a", "threads": 2}, "a test", ["threads=3", "url_prefixes=[https://a.example/]"]
    )
    assert (own.model, own.threads, own.url_prefixes) == ("a", 3, ["https://a.example/"])


def test_the_production_file_is_valid_and_its_arguments_are_settings() -> None:
    content = yaml.safe_load((SOURCE_TREE / "jobs/serve.yaml").read_text())
    [application] = ServeDeploySchema.model_validate(content).applications
    assert resolve_serving(application.args, "the file").gpus_per_model == 1
    assert application.import_path == "saga_ray.serve.deployment:build"
    assert content["http_options"]["host"] == "127.0.0.1"


def test_replicas_are_told_of_files_by_absolute_paths(
    model: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("a secret token")
    for name, leads_to in (("token", tmp_path / "secret"), ("index", index)):
        (tmp_path / name).symlink_to(leads_to)
    monkeypatch.chdir(tmp_path)
    app = application(settings(model, index="index", token_file="token"))
    monkeypatch.chdir("/")  # as a replica, which works in a folder of its own
    values = app._bound_deployment.init_args[0]
    # links stay: they may lead elsewhere by the time another replica starts
    assert (values["index"], values["token_file"]) == (str(tmp_path / "index"), str(tmp_path / "token"))
    assert read_token(ServeSettings.model_validate(values)) == "a secret token"


@pytest.mark.parametrize("port", ["99999", "65536", "0", "-1"])
def test_a_port_that_cannot_be_is_refused_in_a_sentence(
    port: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(model), "--port", port]) == 2
    assert capsys.readouterr().err == f"saga: --port {port} is no port: choose one from 1 to 65535\n"


def test_loopback_is_known() -> None:
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("::") and not is_loopback("host.example")
