"""cluster.yaml is a cluster that Ray's launcher takes, and one that the preset furniture-cluster fits on."""

from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.overrides import resolve
from saga_ray.config.settings import Settings


@pytest.fixture
def cluster() -> dict[str, Any]:
    loaded = yaml.safe_load((SOURCE_TREE / "cluster.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture
def settings() -> Settings:
    return resolve("furniture-cluster")


def test_rays_own_schema_takes_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_rays_schema_would_notice_a_slip(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["rollout"]["min_worker"] = 1
    with pytest.raises(jsonschema.ValidationError):
        validate_config(cluster)


def test_head_has_no_gpu_and_the_others_have(cluster: dict[str, Any]) -> None:
    kinds = cluster["available_node_types"]
    assert set(kinds) == {cluster["head_node_type"], "training", "rollout"}
    assert "GPU" not in kinds["head"]["resources"]
    assert kinds["training"]["resources"]["GPU"] and kinds["rollout"]["resources"]["GPU"]


@pytest.mark.parametrize("kind", ["training", "rollout"])
def test_the_preset_fits_on_the_nodes_that_a_job_may_get(
    kind: str, cluster: dict[str, Any], settings: Settings
) -> None:
    node = cluster["available_node_types"][kind]
    if kind == "training":
        number, custom = settings.train.workers, settings.train.resources
        # Each worker's Ray Data tasks take CPUs of the same nodes.
        cpus = settings.train.cpus_per_worker + settings.data.decode_tasks
        gpus = settings.train.gpus_per_worker
    else:
        number, custom = settings.rollout.actors, settings.rollout.resources
        cpus, gpus = settings.rollout.cpus_per_actor, settings.rollout.gpus_per_actor
    assert custom == {kind: 1}, "the resource that keeps the two kinds of nodes apart"
    for resource, amount in {**custom, "CPU": cpus, "GPU": gpus}.items():
        per_node = node["resources"][resource] // amount
        assert per_node * node["max_workers"] >= number, resource


def test_the_head_shares_the_folder_that_the_others_mount(cluster: dict[str, Any]) -> None:
    ready = prepare_config(cluster)
    # What `ray up` gives the head's updater; a node type's own commands are read for workers only.
    assert any("exportfs" in command for command in ready["initialization_commands"])
    kinds = ready["available_node_types"]
    assert "initialization_commands" not in kinds[ready["head_node_type"]]
    for kind in ("training", "rollout"):
        mount = kinds[kind]["initialization_commands"]
        assert any("mount -t nfs4 $RAY_HEAD_IP:/mnt/saga" in command for command in mount)


def test_node_counts_agree(cluster: dict[str, Any]) -> None:
    workers = [kind for name, kind in cluster["available_node_types"].items() if name != "head"]
    assert all(kind["min_workers"] <= kind["max_workers"] for kind in workers)
    assert cluster["max_workers"] == sum(kind["max_workers"] for kind in workers)


def test_nodes_run_the_pinned_ray(cluster: dict[str, Any]) -> None:
    pins = (SOURCE_TREE / "constraints.txt").read_text().splitlines()
    version = next(pin.removeprefix("ray==") for pin in pins if pin.startswith("ray=="))
    for image in (cluster["docker"]["head_image"], cluster["docker"]["worker_image"]):
        assert image.startswith(f"rayproject/ray:{version}-py311-")


def test_nodes_install_the_package_itself_which_the_service_needs(cluster: dict[str, Any]) -> None:
    [(place, local)] = cluster["file_mounts"].items()
    assert (SOURCE_TREE / local / "pyproject.toml").is_file()
    ignored = (SOURCE_TREE / ".gitignore").read_text().split()
    assert cluster["rsync_filter"] == [".gitignore"] and ".venv/" in ignored
    for node, what in (("head", "."), ("worker", "'.[gpu]'")):
        install = next(each for each in cluster[f"{node}_setup_commands"] if "constraints.txt" in each)
        assert install.startswith(f"cd {place} && uv pip install") and f"constraints.txt {what}" in install
