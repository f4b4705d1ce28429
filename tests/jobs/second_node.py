"""A cloud of one machine: where Ray's autoscaler takes nodes from in these tests."""

from __future__ import annotations

from typing import Any

from ray._private import ray_constants
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class SecondNode(FakeMultiNodeProvider):
    """Ray's own, whose nodes unpack jobs into a folder of theirs, as nodes of their own machines do.

    A node that prepares for a job empties the folder first: that of the head, where a driver stands.
    """

    def create_node_with_resources_and_labels(self, *given: Any) -> None:
        ray_constants.DEFAULT_RUNTIME_ENV_DIR_NAME = "runtime_resources_of_second_node"
        super().create_node_with_resources_and_labels(*given)
