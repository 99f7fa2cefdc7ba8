"""A cloud without spot instances, for Ray's autoscaler: nodes of other types are raylets on this machine."""

from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE


class NoSpotProvider(FakeMultiNodeProvider):  # type: ignore[misc]
    """Refuses nodes of the type gpu-spot, as AWS does when it has none."""

    def create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: Any, labels: Any
    ) -> None:
        """Start nodes."""
        if tags[TAG_RAY_USER_NODE_TYPE] == "gpu-spot":
            raise RuntimeError("InsufficientInstanceCapacity")
        super().create_node_with_resources_and_labels(node_config, tags, count, resources, labels)
