"""Training in several processes, as Keras on JAX does it; one process everywhere else."""

import keras
import numpy as np


def process_count() -> int:
    """Returns how many processes train together; 1 on other backends than JAX."""
    return _jax().process_count() if keras.backend.backend() == "jax" else 1


def first_process() -> bool:
    """Says whether this is the process that logs; the only one is."""
    return keras.backend.backend() != "jax" or _jax().process_index() == 0


class AloneOnJax:
    """Runs a model in this process alone, on whole copies of weights that all processes share.

    `predict_on_batch` would take the batch for this process' part of a larger one, and give
    back what no process can read whole.

    Args:
        model: A built Keras model.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self._forward = _jax().jit(
            lambda *state_and_batch: model.stateless_call(*state_and_batch)[0]
        )

    def predict_on_batch(self, batch):
        """Returns the model's outputs in inference mode, as NumPy arrays.

        Raises:
            ValueError: The weights are not whole in each process, as under `ModelParallel`.
        """
        trainable, rest = self._model.trainable_variables, self._model.non_trainable_variables
        parts = [v.path for v in [*trainable, *rest] if not v.value.sharding.is_fully_replicated]
        if parts:
            raise ValueError(
                "Expected weights that are whole in each process, as keras.distribution."
                f"DataParallel keeps them. Received: {', '.join(parts[:3])} in parts"
            )
        outputs = self._forward(_whole(trainable), _whole(rest), batch)
        return keras.tree.map_structure(np.array, outputs)


def _whole(variables) -> list:
    return [variable.value.addressable_data(0) for variable in variables]


def _jax():
    import jax

    return jax
