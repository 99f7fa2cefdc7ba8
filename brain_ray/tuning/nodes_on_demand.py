"""Ray Tune callback: asks for nodes on demand where none of the cheaper ones are to be had."""

from typing import Any

from ray import tune

from brain_ray.cluster.node_request import NodeRequest
from brain_ray.logs import log


class NodesOnDemand(tune.Callback):  # type: ignore[misc]
    """Renews a sweep's request for nodes, for as many trials as run or wait."""

    def __init__(self, request: NodeRequest) -> None:
        self._request = request
        self._most = request.count

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_step_end(self, iteration: int, trials: Any, **_: Any) -> None:
        """Renews the request, and logs if other nodes are asked for."""
        self._request.count = min(self._most, sum(not trial.is_finished() for trial in trials))
        if line := self._request.renew():
            log.info(line)

    def close(self) -> None:
        """Takes the request back."""
        self._request.cancel()
