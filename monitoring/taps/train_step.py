"""Statistics of the training batches themselves, taken inside the training step (TensorFlow)."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import backend, ops

from ..statistics.grouped import GroupedCovariance
from ..statistics.regularizer import batch_redundancy
from ..statistics.types import Images, Tensor
from .accumulator import Accumulator
from .patching import Method, Patch, TrainStepPatch
from .recording import build_on_shapes
from .watched import Watched

TrainStep = Callable[[Any], dict[str, Tensor]]  # from a batch of data to the logs


class TrainStepTap:
    """Accumulates the activations of watched layers over training batches, grouped by batch.

    From `attach` on, the model's training step also merges the statistics of each batch into
    variables of the tap; no forward pass is added. It ends with `detach`, or by itself when the
    `fit` in which it began is over (see `TrainStepPatch`).

    Args:
        watched: Layers of a compiled model.
        accumulate: Whether to accumulate statistics, and not only to add the penalty. Defaults
            to True.
        weight: Weight of the mean redundancy of the watched layers in the loss. Defaults to 0.
        warmup: Optimizer steps over which the weight grows from 0. Defaults to 0.

    Raises:
        ValueError: The backend is not TensorFlow.
    """

    source = "batches"

    def __init__(
        self, watched: Watched, *, accumulate: bool = True, weight: float = 0.0, warmup: int = 0
    ):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "The statistics of training batches, and redundancy_weight, need Keras' TensorFlow "
                "backend. Pass monitor_data, which works on every backend. Received: backend "
                f"{keras.backend.backend()!r}"
            )
        self.watched, self.weight, self.warmup = watched, weight, warmup
        self.accumulate = accumulate
        self._accumulators: dict[str, Accumulator] = {}
        self._penalty: Any = None
        self._checked = False
        self._patch: TrainStepPatch | None = None

    def attach(self) -> None:
        """Wraps the training step; a training function already traced is set aside.

        Raises:
            ValueError: The model trains on several devices in a way that the tap does not
                support.
        """
        model = self.watched.model
        strategy = getattr(model, "distribute_strategy", None)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            self._prepare_replicas(strategy.num_replicas_in_sync)
        self._patch = TrainStepPatch(model, self._step)

    def _prepare_replicas(self, replicas: int) -> None:
        """Creates the accumulators outside the replicas; the first replica fills them for all."""
        if self.weight:
            raise ValueError(f"redundancy_weight is for one device. Received: {replicas} replicas")
        for name, layer in self.watched.layers.items():
            shape = getattr(getattr(layer, "output", None), "shape", None)
            if shape is None:
                raise ValueError(
                    f"Layer '{name}' has no shape before training starts, but {replicas} "
                    "replicas need it. Build the model as a functional one, or pass monitor_data"
                )
            channels = shape[self.watched.channel_axis]
            self._accumulators[name] = Accumulator(channels, layer.compute_dtype)

    def detach(self) -> None:
        """Restores the training step; does nothing if it is not wrapped."""
        if self._patch is not None:
            self._patch.release()
            self._patch = None

    def take(self) -> dict[str, tuple[GroupedCovariance, float]]:
        """Returns the window and begins the next.

        Returns:
            {layer name: (its covariance grouped by batches, the fraction of its trace that
            lies between batches)}; empty if no batch was seen.
        """
        return {name: acc.take() for name, acc in self._accumulators.items() if acc.batches()}

    def peek(self) -> dict[str, tuple[GroupedCovariance, float]]:
        """Returns the window so far and leaves it open."""
        return {name: acc.read() for name, acc in self._accumulators.items() if acc.batches()}

    def batches(self) -> int:
        """Returns how many training batches the tap has seen, in all of its windows."""
        return max((acc.taken + acc.batches() for acc in self._accumulators.values()), default=0)

    def state(self) -> dict[str, np.ndarray]:
        """Returns the open window as arrays for `restore`; empty if it holds no batch."""
        return {
            f"{part}:{name}": value
            for name, accumulator in self._accumulators.items()
            if accumulator.batches()
            for part, value in accumulator.state().items()
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues a window returned by `state`; to be called before the first step.

        Raises:
            ValueError: The window is of other layers, or of layers of another width.
        """
        parts: dict[str, dict[str, np.ndarray]] = {}
        for key, value in state.items():
            part, _, name = key.partition(":")
            parts.setdefault(name, {})[part] = value
        for name, values in parts.items():
            if name not in self.watched.layers:
                raise ValueError(
                    f"The open window is of layer '{name}', which is not watched now. Watch the "
                    "same layers as before, or remove the folder window/ to begin a new window"
                )
            if name not in self._accumulators:
                channels = values["mean"].shape[1]
                self._accumulators[name] = Accumulator(channels, str(values["dtype"]))
            self._accumulators[name].restore(values)

    def step_seconds(self, repeats: int = 9) -> float:
        """Estimates the time for the statistics of one step, which cannot be timed inside it.

        The same update of the same shapes is timed in a function of its own; the model is not
        touched. Within a step it competes for caches and overlaps with other work, so this is
        an estimate.

        Returns:
            Seconds; 0 if nothing was accumulated.
        """
        import tensorflow as tf

        parts = [acc.twin() for acc in self._accumulators.values() if acc.batch_samples]
        if not parts:
            return 0.0

        @tf.function
        def update() -> None:
            for accumulator, samples in parts:
                accumulator.add(samples)

        update()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            update()
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    def _step(self, original: TrainStep, data: Any) -> dict[str, Tensor]:
        """Runs one training step with its statistics; called when Keras traces it, or eagerly."""
        import tensorflow as tf

        inputs = self._inputs(data)
        if inputs is not None:
            build_on_shapes(self.watched.model, inputs, training=True)
            if tf.executing_eagerly() and not self._checked:
                self.watched.check(inputs, training=True)
        self._checked = True
        with self.watched.recorded() as outputs:
            if not self.weight:
                logs = original(data)
            else:
                logs = self._penalised(original, data, outputs)
        samples = self.watched.samples(outputs, None, inputs)
        if self.accumulate:
            for name, part in samples.items():
                self._accumulator(name, part.values).add(*part)
        return logs

    def _inputs(self, data: Any) -> Images | None:
        """Returns the model's inputs in Keras' own training step; None in a user's own step."""
        if type(self.watched.model).train_step is not keras.Model.train_step:
            return None
        return keras.utils.unpack_x_y_sample_weight(data)[0]

    def _accumulator(self, name: str, samples: Tensor) -> Accumulator:
        if name not in self._accumulators:
            import tensorflow as tf

            with tf.init_scope():
                self._accumulators[name] = Accumulator(
                    samples.shape[-1], backend.standardize_dtype(samples.dtype)
                )
        channels = self._accumulators[name].channels
        if channels != samples.shape[-1]:
            raise ValueError(
                f"The open window of layer '{name}' has {channels} channels, the layer has "
                f"{samples.shape[-1]}. Remove the folder window/ to begin a new window"
            )
        return self._accumulators[name]

    def _penalised(
        self, original: TrainStep, data: Any, outputs: Mapping[str, list[Tensor]]
    ) -> dict[str, Tensor]:
        """Runs the step with the penalty added to its loss, and its value to the logs."""
        values: list[Tensor] = []

        def add_penalty(compute_loss: Method, *args: Any, **kwargs: Any) -> Tensor:
            loss = compute_loss(*args, **kwargs)
            samples = self.watched.samples(outputs, None, every_position=True).values()
            mean = sum(batch_redundancy(*part) for part in samples) / len(outputs)
            values.append(ops.cast(self._current_weight() * mean, loss.dtype))
            return loss + values[-1]

        with Patch(self.watched.model, "compute_loss", add_penalty):
            logs = original(data)
        if not values:
            raise ValueError(
                f"The training step of '{self.watched.model.name}' does not call `compute_loss`: "
                "redundancy_weight has no loss to add to."
            )
        return {**logs, "redundancy_penalty": self._mean_penalty(values[-1])}

    def _current_weight(self) -> Tensor:
        steps = ops.cast(self.watched.model.optimizer.iterations, "float32")
        fraction = ops.minimum(steps / self.warmup, 1.0) if self.warmup else 1.0
        return self.weight * fraction

    def _mean_penalty(self, value: Tensor) -> Tensor:
        import tensorflow as tf

        if self._penalty is None:
            with tf.init_scope():
                self._penalty = tf.Variable([0.0, 0.0], trainable=False)
        self._penalty.assign_add([tf.cast(value, tf.float32), 1.0])
        return self._penalty[0] / self._penalty[1]

    def begin_epoch(self) -> None:
        """Resets the mean of the penalty for a new epoch."""
        if self._penalty is not None:
            self._penalty.assign([0.0, 0.0])
