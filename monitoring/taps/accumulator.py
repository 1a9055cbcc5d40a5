"""The window of training batches of one layer, as variables on the device (TensorFlow)."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..statistics.covariance import (
    CovarianceState,
    count_nonfinite,
    measure_batch,
    merge,
    to_host,
)
from ..statistics.grouped import GroupedCovariance, group_count
from ..statistics.types import Tensor

INTEGERS = ("count", "seen", "nonfinite_units", "nonfinite_samples")


class Accumulator:
    """Accumulates training batches of one layer, by groups, in variables of its own.

    Args:
        channels: Number of channels.
        dtype: Dtype of the layer's outputs.

    Attributes:
        channels: Number of channels.
        dtype: Dtype of the layer's outputs.
        batch_samples: Mean number of samples in a batch of the window last read.
        taken: Batches of the windows taken; less those of a window that was restored.
    """

    def __init__(self, channels: int, dtype: str):
        import tensorflow as tf

        self.channels, self.dtype, self.batch_samples, self.taken = channels, dtype, 0, 0
        self._size = group_count(channels)
        groups = CovarianceState.empty(channels, (self._size,))._asdict()
        shapes = {name: part.shape for name, part in groups.items()}
        shapes |= {"within": (), "seen": (), "nonfinite_units": (), "nonfinite_samples": ()}
        self._variables = {
            name: tf.Variable(
                tf.zeros(shape, tf.int64 if name in INTEGERS else tf.float32), trainable=False
            )
            for name, shape in shapes.items()
        }

    def add(self, samples: Tensor, valid: Tensor | None = None) -> None:
        """Merges one batch into the next group.

        Args:
            samples: (samples, channels).
            valid: Which samples count, (samples,), bool. Defaults to None: all.
        """
        import tensorflow as tf

        variables = self._variables
        samples = tf.cast(tf.stop_gradient(samples), tf.float32)
        batch = measure_batch(samples, valid)
        batch = batch._replace(count=tf.cast(batch.count, tf.int64))
        nonfinite = count_nonfinite(samples, batch.mean)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            nonfinite = replica.all_reduce(tf.distribute.ReduceOp.SUM, nonfinite)
            batch = _merge_replicas(batch, replica)
            if tf.get_static_value(replica.replica_id_in_sync_group) != 0:
                return  # the first replica writes for all
        row = tf.math.floormod(variables["seen"], self._size)
        group = CovarianceState(*(variables[name][row] for name in CovarianceState._fields))
        for name, value in merge(group, batch)._asdict().items():
            variables[name].scatter_update(tf.IndexedSlices(value[None], row[None]))
        variables["within"].assign_add(tf.linalg.trace(batch.scatter))
        variables["seen"].assign_add(tf.ones((), tf.int64))
        finite = tf.reduce_all(tf.math.is_finite(batch.mean))
        variables["nonfinite_units"].assign_add(tf.cast(~finite, tf.int64))
        variables["nonfinite_samples"].assign_add(tf.cast(nonfinite, tf.int64))

    def twin(self) -> tuple["Accumulator", Tensor]:
        """Returns an empty accumulator of the same size, and random samples like a batch's."""
        import tensorflow as tf

        shape = (self.batch_samples, self.channels)
        samples = tf.random.stateless_normal(shape, seed=(0, 0))
        return Accumulator(self.channels, self.dtype), tf.cast(samples, self.dtype)

    def batches(self) -> int:
        """Returns the number of batches in the window."""
        return int(self._variables["seen"].numpy())

    def read(self) -> tuple[GroupedCovariance, float]:
        """Returns the window so far, and the fraction of its trace that lies between batches."""
        values = {name: variable.numpy() for name, variable in self._variables.items()}
        self.batch_samples = int(values["count"].sum() // max(values["seen"], 1))
        grouped = GroupedCovariance(self.channels)
        grouped.add_groups(
            to_host(CovarianceState(*(values[name] for name in CovarianceState._fields))),
            int(values["seen"]),
            dtype=self.dtype,
            nonfinite_units=int(values["nonfinite_units"]),
            nonfinite_samples=int(values["nonfinite_samples"]),
        )
        trace = np.trace(grouped.pooled().scatter) if grouped.units else 0.0
        drift = 1.0 - float(values["within"]) / trace if trace > 0 else np.nan
        return grouped, max(drift, 0.0) if drift == drift else np.nan

    def state(self) -> dict[str, np.ndarray]:
        """Returns the value of every variable, and the layer's dtype."""
        values = {name: variable.numpy() for name, variable in self._variables.items()}
        return values | {"dtype": np.array(self.dtype)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets every variable.

        Args:
            state: What `state` returned. Version 0.1 kept one shift for all groups.
        """
        for name, variable in self._variables.items():
            variable.assign(np.broadcast_to(state[name], variable.shape))
        self.taken = -self.batches()

    def take(self) -> tuple[GroupedCovariance, float]:
        """Returns the window as `read` does, and empties it."""
        import tensorflow as tf

        window = self.read()
        self.taken += self.batches()
        for variable in self._variables.values():
            variable.assign(tf.zeros_like(variable))
        return window


def _merge_replicas(batch: CovarianceState, replica: Any) -> CovarianceState:
    """Returns the state of all replicas' parts of a batch, the same on each replica."""
    gathered = CovarianceState(*(replica.all_gather(part[None], axis=0) for part in batch))
    return functools.reduce(
        merge, (gathered.at(number) for number in range(replica.num_replicas_in_sync))
    )
