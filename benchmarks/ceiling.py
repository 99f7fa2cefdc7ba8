"""What a GPU can do for these networks: images per second of training steps by Keras on JAX.

The whole step (forward, backward, optimizer, batch norms' statistics) is one program that XLA compiles, the
batch lies on the GPU, nothing is loaded and nothing is reported. It tells how fast these networks can be on a
card; a training of this project's, which runs on TensorFlow, does more, and was not compared. Each row is a
process of its own, and the median of five times ten steps. Needs `jax[cuda13]`, which nothing else here uses.
A row takes one to two minutes, most of it compiling.

    python benchmarks/ceiling.py
    python benchmarks/ceiling.py --rows B5,456,32,mixed_bfloat16 B7,600,16,mixed_bfloat16
    python benchmarks/ceiling.py --rows B0,32,8,float32   # tries the script on a CPU
"""

import argparse
import importlib.util
import json
import os
import time
from typing import Any

import numpy as np
from legs import run_leg

BFLOAT, FLOAT = "mixed_bfloat16", "float32"
ROWS = (
    ("B0", 224, 256, BFLOAT), ("B0", 224, 32, BFLOAT), ("B0", 224, 256, FLOAT),
    ("B3", 300, 128, BFLOAT), ("B3", 300, 32, BFLOAT),
)  # fmt: skip
"""Networks of EfficientNet, sides in pixels, images in a batch, and Keras' dtype policies."""

REPEATS, STEPS = 5, 10


def measure(name: str, side: int, batch: int, policy: str) -> dict[str, Any]:
    """Compile a step of Adam and time it; return images per second, seconds of compiling, and peak GB."""
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras

    keras.config.set_dtype_policy(policy)
    # On the CPU, where hundreds of small initial weights are made sooner.
    jax.config.update("jax_default_device", jax.devices("cpu")[0])
    build = getattr(keras.applications, f"EfficientNet{name}")
    backbone = build(include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg")
    outputs = keras.layers.Dense(4, dtype="float32")(backbone.output)
    model = keras.Model(backbone.input, outputs)
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss(trained: Any, others: Any, images: Any, labels: Any) -> Any:
        logits, others = model.stateless_call(trained, others, images, training=True)
        return loss_of(labels, logits), others

    def step(state: Any, images: Any, labels: Any) -> Any:
        trained, others, moments = state
        (value, others), gradients = jax.value_and_grad(loss, has_aux=True)(trained, others, images, labels)
        trained, moments = optimizer.stateless_apply(moments, gradients, trained)
        return (trained, others, moments), value

    rng = np.random.default_rng(1)
    gpu = jax.devices()[0]
    images = jax.device_put(rng.integers(0, 256, (batch, side, side, 3), np.uint8), gpu)
    labels = jax.device_put(rng.integers(0, 4, batch), gpu)
    variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    # Copies, since a step gives its state away.
    state = tuple([jax.device_put(np.array(each.value), gpu) for each in some] for some in variables)
    jax.config.update("jax_default_device", gpu)
    started = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=0).lower(state, images, labels).compile()
    compiling = time.perf_counter() - started
    for _ in range(3):
        state, value = compiled(state, images, labels)
    value.block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for _ in range(STEPS):
            state, value = compiled(state, images, labels)
        value.block_until_ready()
        seconds.append((time.perf_counter() - started) / STEPS)
    assert np.isfinite(float(value)), "the loss is not finite"
    used = (gpu.memory_stats() or {}).get("peak_bytes_in_use", 0)
    return {
        "device": gpu.device_kind,
        "images_per_second": batch / float(np.median(seconds)),
        "spread": (max(seconds) - min(seconds)) / float(np.median(seconds)),
        "compile_s": compiling,
        "peak_gb": used / 1e9,
    }


def main(rows: list[tuple[str, int, int, str]]) -> None:
    """Measure, print a table and, last, the ratios as JSON."""
    if importlib.util.find_spec("jax") is None:
        raise SystemExit("this benchmark needs JAX: pip install 'jax[cuda13]'")
    found = {}
    titles = f"{'network':>8}{'side':>6}{'batch':>6}  {'precision':16}{'images/s':>9}{'spread':>8}"
    print(titles + f"{'compile s':>11}{'peak GB':>9}  device")
    for row in rows:
        figures = found[row] = run_leg(__file__, str(row), "--leg", *row)
        name, side, batch, policy = row
        print(
            f"{name:>8}{side:>6}{batch:>6}  {policy:16}{figures['images_per_second']:>9.0f}"
            f"{figures['spread']:>8.1%}{figures['compile_s']:>11.0f}{figures['peak_gb']:>9.1f}"
            f"  {figures['device']}",
            flush=True,
        )
    speeds = {row: each["images_per_second"] for row, each in found.items()}
    pairs = {
        "b0_bfloat16_over_float32": (("B0", 224, 256, BFLOAT), ("B0", 224, 256, FLOAT)),
        "b0_batch_256_over_32": (("B0", 224, 256, BFLOAT), ("B0", 224, 32, BFLOAT)),
        "b3_batch_128_over_32": (("B3", 300, 128, BFLOAT), ("B3", 300, 32, BFLOAT)),
    }
    print(
        json.dumps(
            {key: round(speeds[a] / speeds[b], 2) for key, (a, b) in pairs.items() if {a, b} <= speeds.keys()}
        )
    )


def _row(text: str) -> tuple[str, int, int, str]:
    name, side, batch, policy = text.split(",")
    return name, int(side), int(batch), policy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=_row, nargs="+", default=ROWS, help="network,side,batch,precision")
    parser.add_argument("--leg", nargs=4)
    given = parser.parse_args()
    if given.leg:
        print(json.dumps(measure(given.leg[0], int(given.leg[1]), int(given.leg[2]), given.leg[3])))
    else:
        main(list(given.rows))
