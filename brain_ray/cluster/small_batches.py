"""Batches that are small for their GPUs: what a step computes and what it sends, estimated."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brain_ray.config import ModelConfig, TrainConfig

LEAST_ROWS = 32
"""Images for each GPU in a step below which several GPUs are advised against. Estimated: with 32, an H200 has
a third of its speed with 256 (B0 in Keras on JAX, docs/SCALING.md): a step of fewer is hardly shorter."""

NETWORKS = {
    "EfficientNetB0": (4_007_548, 0.39e9),
    "EfficientNetB1": (6_513_184, 0.70e9),
    "EfficientNetB2": (7_700_994, 1.0e9),
    "EfficientNetB3": (10_696_232, 1.8e9),
    "EfficientNetB4": (17_548_616, 4.2e9),
    "EfficientNetB5": (28_340_784, 9.9e9),
    "EfficientNetB6": (40_735_704, 19e9),
    "EfficientNetB7": (63_786_960, 37e9),
    "EfficientNetLite0": (3_371_008, 0.41e9),
}
"""Numbers that learn, as Keras counts them without the top, and multiply-adds for an image of the backbone's
native side (Tan and Le 2019, arxiv.org/abs/1905.11946, table 2; Lite0: its page at github.com/tensorflow)."""

GPUS = {
    "V100": 305 * 0.39e9,
    "A100": 1290 * 0.39e9,
    "H100": 3740 * 0.39e9,
    "H200": 3740 * 0.39e9,
    "L4": 374 * 0.39e9,
}
"""Multiply-adds of the network for the images that a GPU trains on in a second, by Ray's names of GPUs.
Estimated: B0's images per second in docs/SCALING.md times B0's multiply-adds; an L4's are a tenth of an
H100's."""

LINK = 1.25e9
"""Bytes per second between machines for each of their GPUs: 10 Gbit/s, the most of a g6.xlarge."""

BUS = 25e9
"""Bytes per second between GPUs of one machine, over PCIe 4.0; NVLink has more."""


def step_seconds(
    parameters: int, multiply_adds: float, rows: float, num_gpus: int, rate: float, bandwidth: float
) -> tuple[float, float]:
    """Returns the seconds in which a GPU computes its part of a step, and those in which it sends gradients.

    Gradients of float32 go round a ring, in which each GPU sends nearly twice their size (Patarasu and Yuan
    2009, doi.org/10.1016/j.jpdc.2008.09.002).

    Args:
        parameters: numbers that learn.
        multiply_adds: of the network for an image.
        rows: images of a step on each GPU.
        num_gpus: that share the step.
        rate: multiply-adds of the network for images that a GPU trains on in a second.
        bandwidth: bytes per second that a GPU sends.
    """
    sent = 2 * (num_gpus - 1) / num_gpus * 4 * parameters
    return rows * multiply_adds / rate, sent / bandwidth


def describe_small_batch(
    settings: "TrainConfig", model: "ModelConfig", nodes: Sequence[Mapping[str, float]] = ()
) -> str:
    """Returns what is wrong with a batch that is small for its GPUs, and what to do; "" if nothing is.

    Args:
        settings: of the training.
        model: its network.
        nodes: resources of the nodes that run; where these have GPUs of `GPUS`, and the network is one of
            `NETWORKS`, what they compute is compared with what they send.
    """
    num_gpus, rows = settings.max_workers, settings.step_images / settings.max_workers
    if not settings.use_gpu or num_gpus == 1:
        return ""
    shared, enough = f"{rows:g} images for each of {num_gpus} GPUs", LEAST_ROWS
    found = f"a step has {shared}, and may be slower than on one"
    if rows >= LEAST_ROWS:
        times = _seconds_of(model, rows, num_gpus, nodes)
        if times is None or times[1] <= times[0]:
            return ""
        computes, sends = (1e3 * seconds for seconds in times)
        enough = math.ceil(rows * sends / computes)
        found = (
            f"a step has {shared}, which compute them in {computes:.0f} ms and send gradients for "
            f"{sends:.0f} ms (estimated)"
        )
    batch = enough * num_gpus // settings.batch_factor
    return (
        f"{found}: lower train.num_workers, or raise train.batch_size to {batch} and train.learning_rate "
        "with it"
    )


def _seconds_of(
    model: "ModelConfig", rows: float, num_gpus: int, nodes: Sequence[Mapping[str, float]]
) -> tuple[float, float] | None:
    """Returns `step_seconds` on the slowest of the nodes' GPUs; None: network or GPUs are not known."""
    nodes = [node for node in nodes if node.get("GPU", 0.0) >= 1]
    kinds = {
        name.partition(":")[2] for node in nodes for name in node if name.startswith("accelerator_type:")
    }
    if model.backbone not in NETWORKS or not kinds or not kinds <= GPUS.keys():
        return None
    parameters, multiply_adds = NETWORKS[model.backbone]
    multiply_adds *= model.height * model.width / model.backbone_spec.native_side**2
    together = max(node["GPU"] for node in nodes) >= num_gpus
    bandwidth = BUS if together else LINK * min(node["GPU"] for node in nodes)
    return step_seconds(
        parameters, multiply_adds, rows, num_gpus, min(GPUS[kind] for kind in kinds), bandwidth
    )
