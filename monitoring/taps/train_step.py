"""Statistics of the training batches themselves, taken inside the training step.

TensorFlow only. The step is taken over for the length of a `fit` and given back; the
accumulators are the tap's own, not the model's.
"""

import functools
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import backend, ops

from ..statistics.covariance import (
    CovarianceState,
    batch_state,
    first_sample,
    merge_states,
    nonfinite_samples,
)
from ..statistics.grouped import GroupedCovariance
from ..statistics.regularizer import batch_redundancy
from .watched import Watched


class TrainStepTap:
    """Accumulates watched layers' activations over training batches, grouped by batch.

    Between `attach` and `detach` the model's `train_step` is the original, with each
    batch's statistics merged into variables of the tap; no forward pass is added.

    Args:
        watched: Layers of a compiled model.
        accumulate: Whether to keep statistics, and not only to add the penalty. Defaults
            to True.
        weight: Of the mean redundancy of the watched layers in the loss. Defaults to 0.
        warmup: Optimizer steps over which the weight grows from 0. Defaults to 0.

    Raises:
        ValueError: The backend is not TensorFlow.
    """

    source = "batches"

    def __init__(
        self,
        watched: Watched,
        *,
        accumulate: bool = True,
        weight: float = 0.0,
        warmup: int = 0,
    ):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "The statistics of training batches, and redundancy_weight, need Keras' TensorFlow "
                "backend. Give monitor_data, which works on every backend. Received: backend "
                f"{keras.backend.backend()!r}"
            )
        self.watched, self.weight, self.warmup = watched, weight, warmup
        self.accumulate = accumulate
        self._accumulators: dict[str, _Accumulator] = {}
        self._penalty: Any = None
        self._checked = False
        self._given: dict[str, Any] | None = None

    def attach(self) -> None:
        """Takes the training step over; a step already traced is set aside.

        Raises:
            ValueError: The model trains on several devices, in a way that Keras or the tap
                cannot.
        """
        model = self.watched.model
        strategy = getattr(model, "distribute_strategy", None)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            self._prepare_replicas(strategy.num_replicas_in_sync)
        self._given = {name: vars(model).get(name) for name in ("train_step", "train_function")}
        original = model.train_step
        object.__setattr__(model, "train_step", lambda data: self._step(original, data))
        model.make_train_function(force=True)

    def _prepare_replicas(self, replicas: int) -> None:
        """Makes the accumulators outside the replicas: one of them fills them, for all."""
        if self.weight:
            raise ValueError(f"redundancy_weight is for one device. Received: {replicas} replicas")
        for name, layer in self.watched.layers.items():
            shape = getattr(getattr(layer, "output", None), "shape", None)
            if shape is None:
                raise ValueError(
                    f"Layer '{name}' has no shape before training starts, as {replicas} replicas "
                    "need it. Build the model as a functional one, or give monitor_data"
                )
            channels = shape[self.watched.channel_axis]
            self._accumulators[name] = _Accumulator(channels, layer.compute_dtype)

    def detach(self) -> None:
        """Gives the step back, as it was; does nothing where it was not taken."""
        if self._given is None:
            return
        model = self.watched.model
        if self._given["train_step"] is None:
            object.__delattr__(model, "train_step")
        else:
            object.__setattr__(model, "train_step", self._given["train_step"])
        model.train_function = self._given["train_function"]
        self._given = None

    def take(self) -> dict[str, tuple[GroupedCovariance, float]]:
        """Closes the window: returns what it holds, and begins the next.

        Returns:
            {layer name: (its covariance grouped by batches, the share of its trace that
            lies between batches)}; empty where no batch was seen.
        """
        return {name: acc.take() for name, acc in self._accumulators.items() if acc.batches()}

    def peek(self) -> dict[str, tuple[GroupedCovariance, float]]:
        """Returns what the window holds, and leaves it open."""
        return {name: acc.read() for name, acc in self._accumulators.items() if acc.batches()}

    def state(self) -> dict[str, np.ndarray]:
        """Returns the open window as arrays, for `restore`; empty where it holds no batch."""
        return {
            f"{part}:{name}": value
            for name, accumulator in self._accumulators.items()
            if accumulator.batches()
            for part, value in accumulator.state().items()
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on with a window that `state` has returned, before the first step.

        Raises:
            ValueError: It is of other layers, or of layers of another width.
        """
        parts: dict[str, dict[str, np.ndarray]] = {}
        for key, value in state.items():
            part, _, name = key.partition(":")
            parts.setdefault(name, {})[part] = value
        for name, held in parts.items():
            if name not in self.watched.layers:
                raise ValueError(
                    f"The open window is of a layer '{name}', which is not watched now. Watch the "
                    "layers of before; without the folder window/ the window begins anew"
                )
            if name not in self._accumulators:
                self._accumulators[name] = _Accumulator(held["mean"].shape[1], str(held["dtype"]))
            self._accumulators[name].restore(held)

    def step_seconds(self, repeats: int = 9) -> float:
        """Estimates what the statistics of one step take, which no clock outside can tell.

        The same update of the same shapes, timed alone, in a function of its own; the model
        is not touched. Within a step it competes for the caches and overlaps with other
        work, so this is an estimate.

        Returns:
            Seconds; 0 where nothing was accumulated.
        """
        import tensorflow as tf

        parts = [acc.twin() for acc in self._accumulators.values() if acc.batch_samples]
        if not parts:
            return 0.0

        @tf.function
        def update():
            for accumulator, samples in parts:
                accumulator.add(samples)

        update()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            update()
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    def _step(self, original, data):
        """One training step with its statistics; runs when Keras traces it, or eagerly."""
        inputs = self._inputs(data)
        if inputs is not None and not self._checked and _runs_eagerly():
            self.watched.check(inputs, training=True)
        self._checked = True
        with self.watched.recorded() as seen:
            if not self.weight:
                logs = original(data)
            else:
                logs = self._penalised(original, data, seen)
        samples = self.watched.samples(seen, None, inputs)
        if self.accumulate:
            for name, part in samples.items():
                self._accumulator(name, part).add(part)
        return logs

    def _inputs(self, data):
        """Returns what Keras' own training step gives the model; None for a user's own step."""
        if type(self.watched.model).train_step is not keras.Model.train_step:
            return None
        return keras.utils.unpack_x_y_sample_weight(data)[0]

    def _accumulator(self, name: str, samples) -> "_Accumulator":
        if name not in self._accumulators:
            import tensorflow as tf

            with tf.init_scope():
                self._accumulators[name] = _Accumulator(
                    samples.shape[-1], backend.standardize_dtype(samples.dtype)
                )
        held = self._accumulators[name].channels
        if held != samples.shape[-1]:
            raise ValueError(
                f"The open window of layer '{name}' is of {held} channels, the layer has "
                f"{samples.shape[-1]}. Without the folder window/ the window begins anew"
            )
        return self._accumulators[name]

    def _penalised(self, original, data, seen: Mapping[str, list]):
        """Runs the step with the penalty in its loss, and its value among the logs."""
        model = self.watched.model
        given, values = vars(model).get("compute_loss"), []
        compute_loss = model.compute_loss

        def with_penalty(*args, **kwargs):
            loss = compute_loss(*args, **kwargs)
            samples = self.watched.samples(seen, None, every_position=True).values()
            mean = sum(batch_redundancy(part) for part in samples) / len(seen)
            values.append(ops.cast(self._current_weight() * mean, loss.dtype))
            return loss + values[-1]

        object.__setattr__(model, "compute_loss", with_penalty)
        try:
            logs = original(data)
        finally:
            if given is None:
                object.__delattr__(model, "compute_loss")
            else:
                object.__setattr__(model, "compute_loss", given)
        if not values:
            raise ValueError(
                f"The training step of model '{model.name}' does not call `compute_loss`: "
                "redundancy_weight has nothing to add to."
            )
        return {**logs, "redundancy_penalty": self._mean_penalty(values[-1])}

    def _current_weight(self):
        steps = ops.cast(self.watched.model.optimizer.iterations, "float32")
        share = ops.minimum(steps / self.warmup, 1.0) if self.warmup else 1.0
        return self.weight * share

    def _mean_penalty(self, value):
        import tensorflow as tf

        if self._penalty is None:
            with tf.init_scope():
                self._penalty = tf.Variable([0.0, 0.0], trainable=False)
        self._penalty.assign_add([tf.cast(value, tf.float32), 1.0])
        return self._penalty[0] / self._penalty[1]

    def begin_epoch(self) -> None:
        """Starts the epoch's mean of the penalty anew."""
        if self._penalty is not None:
            self._penalty.assign([0.0, 0.0])


def _runs_eagerly() -> bool:
    import tensorflow as tf

    return tf.executing_eagerly()


def _joined(batch: CovarianceState, replica) -> CovarianceState:
    """Returns the state of all replicas' parts of a batch together, the same on each."""
    parts = CovarianceState(*(replica.all_gather(value[None], axis=0) for value in batch))
    states = [
        CovarianceState(*(value[number] for value in parts))
        for number in range(replica.num_replicas_in_sync)
    ]
    return functools.reduce(merge_states, states)


class _Accumulator:
    """The window of one layer, as variables on the device."""

    def __init__(self, channels: int, dtype: str):
        import tensorflow as tf

        self.channels, self.dtype = channels, dtype
        self.batch_samples = 0  # of a batch of the last window, on average
        self.size = GroupedCovariance(channels).size
        shapes = {
            "count": (self.size,),
            "mean": (self.size, channels),
            "scatter": (self.size, channels, channels),
            "shift": (channels,),
            "within": (),
            "seen": (),
            "nonfinite_units": (),
            "nonfinite_samples": (),
        }
        integers = ("count", "seen", "nonfinite_units", "nonfinite_samples")
        self._variables = {
            name: tf.Variable(
                tf.zeros(shape, tf.int64 if name in integers else tf.float32), trainable=False
            )
            for name, shape in shapes.items()
        }

    def add(self, samples) -> None:
        """Merges one batch, (samples, channels), into the group whose turn it is."""
        import tensorflow as tf

        held = self._variables
        samples = tf.cast(tf.stop_gradient(samples), tf.float32)
        replica = tf.distribute.get_replica_context()
        several = replica is not None and replica.num_replicas_in_sync > 1
        first, start = tf.equal(held["seen"], 0), first_sample(samples)
        if several:
            start = replica.all_reduce(tf.distribute.ReduceOp.MEAN, start)
        shift = tf.where(first, start, held["shift"])
        batch = batch_state(samples, shift)
        batch = batch._replace(count=tf.cast(batch.count, tf.int64))
        nonfinite = nonfinite_samples(samples, batch.mean)
        if several:
            nonfinite = replica.all_reduce(tf.distribute.ReduceOp.SUM, nonfinite)
            batch = _joined(batch, replica)
            if tf.get_static_value(replica.replica_id_in_sync_group) != 0:
                return  # the first one writes for all
        row = tf.math.floormod(held["seen"], self.size)
        group = CovarianceState(*(held[name][row] for name in CovarianceState._fields))
        for name, value in merge_states(group, batch)._asdict().items():
            held[name].scatter_update(tf.IndexedSlices(value[None], row[None]))
        held["within"].assign_add(tf.linalg.trace(batch.scatter))
        held["shift"].assign(shift)
        held["seen"].assign_add(tf.ones((), tf.int64))
        finite = tf.reduce_all(tf.math.is_finite(batch.mean))
        held["nonfinite_units"].assign_add(tf.cast(~finite, tf.int64))
        held["nonfinite_samples"].assign_add(tf.cast(nonfinite, tf.int64))

    def twin(self):
        """Returns an empty accumulator of the same size, and samples as a batch brings."""
        import tensorflow as tf

        shape = (self.batch_samples, self.channels)
        samples = tf.random.stateless_normal(shape, seed=(0, 0))
        return _Accumulator(self.channels, self.dtype), tf.cast(samples, self.dtype)

    def batches(self) -> int:
        """Returns the batches in the window."""
        return int(self._variables["seen"].numpy())

    def read(self) -> tuple[GroupedCovariance, float]:
        """Returns the window as it stands, and its drift share."""
        held = {name: variable.numpy() for name, variable in self._variables.items()}
        self.batch_samples = int(held["count"].sum() // max(held["seen"], 1))
        grouped = GroupedCovariance(self.channels)
        grouped.add_groups(
            held["shift"],
            int(held["seen"]),
            held["count"],
            held["mean"],
            held["scatter"],
            dtype=self.dtype,
            nonfinite_units=int(held["nonfinite_units"]),
            nonfinite_samples=int(held["nonfinite_samples"]),
        )
        trace = np.trace(grouped.joined().scatter) if grouped.units else 0.0
        drift = 1.0 - float(held["within"]) / trace if trace > 0 else np.nan
        return grouped, max(drift, 0.0) if drift == drift else np.nan

    def state(self) -> dict[str, np.ndarray]:
        """Returns every variable's value, and the layer's dtype."""
        values = {name: variable.numpy() for name, variable in self._variables.items()}
        return values | {"dtype": np.array(self.dtype)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets every variable."""
        for name, variable in self._variables.items():
            variable.assign(state[name])

    def take(self) -> tuple[GroupedCovariance, float]:
        """Returns the window, and empties it."""
        result = self.read()
        import tensorflow as tf

        for variable in self._variables.values():
            variable.assign(tf.zeros_like(variable))
        return result
