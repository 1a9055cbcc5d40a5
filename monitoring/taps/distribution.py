"""Training on several devices or in several processes: what Keras supports, which process logs."""

from collections.abc import Iterable
from types import ModuleType
from typing import Any

import keras
import numpy as np

from ..statistics.types import Images, Tensor

MULTI_WORKER = ("MultiWorkerMirroredStrategy", "CollectiveAllReduceStrategy")


def check_distribution_supported(model: keras.Model) -> None:
    """Refuses, before the first step, a model whose `fit` would fail later.

    Raises:
        ValueError: The model trains under `MultiWorkerMirroredStrategy`, or on several replicas
            with `steps_per_execution` over 1 or `jit_compile`.
    """
    strategy = getattr(model, "distribute_strategy", None)
    if type(strategy).__name__ in MULTI_WORKER:
        raise ValueError(
            "Keras 3 does not train under MultiWorkerMirroredStrategy (keras issue 20585). "
            "Expected MirroredStrategy or, for several processes, Keras on JAX with "
            "keras.distribution.DataParallel"
        )
    replicas = getattr(strategy, "num_replicas_in_sync", 1)
    if replicas > 1 and (model.steps_per_execution > 1 or model.jit_compile):
        raise ValueError(
            f"Keras does not train on {replicas} replicas with steps_per_execution over 1 or "
            f"jit_compile. Received: {model.steps_per_execution}, {model.jit_compile}"
        )


def process_count() -> int:
    """Returns how many processes train together; 1 on other backends than JAX."""
    return _jax().process_count() if keras.backend.backend() == "jax" else 1


def first_process() -> bool:
    """Returns whether this process is the one that logs; a single process always is."""
    return keras.backend.backend() != "jax" or bool(_jax().process_index() == 0)


class LocalJaxModel:
    """Runs a model in this process alone, on full copies of weights that all processes share.

    `predict_on_batch` would treat the batch as one process's part of a larger batch, and return
    outputs that no process can read in full.

    Args:
        model: A built Keras model.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self._forward = _jax().jit(
            lambda *state_and_batch: model.stateless_call(*state_and_batch)[0]
        )

    def predict_on_batch(self, batch: Images) -> Any:
        """Returns the model's outputs in inference mode, as NumPy arrays.

        Raises:
            ValueError: The weights are split between processes, as under `ModelParallel`.
        """
        trainable, rest = self._model.trainable_variables, self._model.non_trainable_variables
        partial = [v.path for v in [*trainable, *rest] if not v.value.sharding.is_fully_replicated]
        if partial:
            raise ValueError(
                "Expected weights that are complete in each process, as with keras.distribution."
                f"DataParallel. Received: {', '.join(partial[:3])} split between processes"
            )
        outputs = self._forward(_whole(trainable), _whole(rest), batch)
        return keras.tree.map_structure(np.array, outputs)


def _whole(variables: Iterable[keras.Variable]) -> list[Tensor]:
    """Returns the values of variables as this process holds them."""
    return [variable.value.addressable_data(0) for variable in variables]


def _jax() -> ModuleType:
    import jax

    module: ModuleType = jax
    return module
