"""All-reduce across workers: sums of gradients, statistics and metrics."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf


BUCKET = 1_000_000
"""Numbers that are sent together, at most, between CPUs: 4 MB of float32, a quarter of EfficientNet-B0's
gradients."""

GPU_BUCKET = 6_250_000
"""The same between GPUs: 25 MB, as PyTorch's DistributedDataParallel takes (`bucket_cap_mb`); TensorFlow
sends one bucket after another there. Not measured."""


class Reduction:
    """Sums over the replicas of a strategy, one on each worker; nothing is sent where there is only one.

    Every worker has to make the same calls in the same order.
    """

    def __init__(self, strategy: "tf.distribute.Strategy", bucket: int = BUCKET) -> None:
        """Takes the strategy, and how many numbers of gradients are sent together at most."""
        import tensorflow as tf

        self._strategy, self._bucket = strategy, bucket
        self.num_replicas: int = strategy.num_replicas_in_sync
        self._compiled = tf.function(self._all_reduce, autograph=False)

    def sum(self, values: Any) -> NDArray[Any]:
        """Adds up an array."""
        return np.asarray(self._compiled(values))

    def mean(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Averages float32 arrays, sent as one."""
        return self._unpack(self.sum(self._pack(arrays)) / self.num_replicas, arrays)

    def of_first(self, arrays: Sequence[NDArray[Any]], rank: int) -> list[NDArray[Any]]:
        """Returns the arrays that rank 0 has, as float32."""
        packed = self._pack(arrays)
        return self._unpack(self.sum(packed if rank == 0 else np.zeros_like(packed)), arrays)

    def pack_gradients(self, gradients: "list[tf.Tensor]") -> "list[tf.Tensor]":
        """Joins gradients into a few flat buffers, the last layers' first; with one worker, returns them.

        Called within a compiled step, as the next two are.
        """
        import tensorflow as tf

        if self.num_replicas == 1:
            return gradients
        flat = [tf.reshape(gradient, [-1]) for gradient in gradients]
        return [tf.concat([flat[i] for i in bucket], axis=0) for bucket in self._buckets(gradients)]

    def sum_packed(self, packed: "list[tf.Tensor]") -> "list[tf.Tensor]":
        """Adds up buffers of `pack_gradients`, one message for each.

        The last layers' gradients are there first, and are on their way while the others are computed.
        """
        return packed if self.num_replicas == 1 else [self._all_reduce(buffer) for buffer in packed]

    def unpack_gradients(self, packed: "list[tf.Tensor]", like: Sequence[Any]) -> "list[tf.Tensor]":
        """Takes buffers apart into gradients, in the order and with the shapes of the variables `like`."""
        import tensorflow as tf

        if self.num_replicas == 1:
            return packed
        found: dict[int, tf.Tensor] = {}
        for bucket, buffer in zip(self._buckets(like), packed, strict=True):
            parts = tf.split(buffer, [math.prod(like[i].shape) for i in bucket])
            for i, part in zip(bucket, parts, strict=True):
                found[i] = tf.reshape(part, like[i].shape)
        return [found[i] for i in range(len(like))]

    def _buckets(self, like: Sequence[Any]) -> list[list[int]]:
        return buckets([math.prod(each.shape) for each in like], self._bucket)[::-1]

    def _all_reduce(self, value: Any) -> Any:
        import tensorflow as tf

        def reduce(local: Any) -> Any:
            # A copy, made on the replica's device: an argument has none, and is refused for that.
            local = tf.identity(local)
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, local)

        return self._strategy.run(reduce, args=(value,))

    @staticmethod
    def _pack(arrays: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return np.concatenate([np.ravel(array).astype(np.float32) for array in arrays])

    @staticmethod
    def _unpack(packed: NDArray[Any], like: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        parts = np.split(packed, np.cumsum([array.size for array in like])[:-1])
        return [part.reshape(array.shape) for part, array in zip(parts, like, strict=True)]


def buckets(sizes: Sequence[int], largest: int = BUCKET) -> list[list[int]]:
    """Parts arrays by their sizes, in their order, into runs of at most `largest` numbers, or of one array.

    Counted from the end, so that it is the first run that is left over.
    """
    runs: list[list[int]] = []
    room = 0
    for i in reversed(range(len(sizes))):
        if sizes[i] > room:
            runs.insert(0, [])
            room = largest
        runs[0].insert(0, i)
        room -= sizes[i]
    return runs
