"""Lets an elastic group of workers change its size where the training's state was just kept.

Ray Train restarts a group to change its size, and looks for room at a fixed interval, so that what was
trained since the last checkpoint would be trained again.
"""

import math

import ray.train

OVER = "over"
"""Key of what workers report to Ray Train: whether there is no more to train."""

_kept = False


def note_kept() -> None:
    """Says, in Ray Train's controller, that the state was just kept and that there is more to train."""
    global _kept  # noqa: PLW0603  # the callback and the settings come to the controller apart from each other
    _kept = True


class ResizeWhereKept(ray.train.ScalingConfig):  # type: ignore[misc]
    """Scaling settings with which Ray Train looks for room once after each `note_kept`, and at no other time.

    Ray's elastic policy (2.60) compares the time since its last look with this setting, in the controller's
    process, right after it has taken the workers' reports. A version that reads it once would never resize a
    group that runs; one that starts again after a loss takes what there is, as always.
    """

    @property
    def elastic_resize_monitor_interval_s(self) -> float:
        """Seconds between two looks: 0 where the state was just kept, else infinite."""
        global _kept
        kept, _kept = _kept, False
        return 0.0 if kept else math.inf

    @elastic_resize_monitor_interval_s.setter
    def elastic_resize_monitor_interval_s(self, _: float) -> None:
        """Ignores what the dataclass sets at first."""
