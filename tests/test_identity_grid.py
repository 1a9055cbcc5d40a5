"""Every cell of the promise that monitoring leaves no bit of a training changed.

Minutes under XLA, so it runs with `--grid` alone (`make test-grid`, and CI); a few of its cells
on smaller networks are in test_train_step.py.
"""

import keras
import numpy as np
import pytest

from models import BU_Net, Nano_U
from monitoring import NASMonitorCallback

SIZE = (24, 32, 3)
NETWORKS = {
    "nano_u": lambda: Nano_U(SIZE, (4, 8, 16), 16, enable_probes=True),
    "bu_net": lambda: BU_Net(SIZE, (8, 16), 16, enable_probes=True),
}


@pytest.fixture(autouse=True)
def only_when_asked_for(request):
    if not request.config.getoption("--grid"):
        pytest.skip("minutes long: run with --grid, or make test-grid")


def trained(network, monitor, options):
    rng = np.random.default_rng(0)
    # XLA compiles every shape and function for half a minute: under it all batches are whole.
    whole = options["jit_compile"]
    images = rng.uniform(-1, 1, (36 if whole else 38, *SIZE)).astype("float32")
    masks = (images[..., :1] > 0).astype("float32")
    keras.utils.set_random_seed(0)
    model = NETWORKS[network]()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-2), loss, **options)
    model.optimizer.build(model.trainable_variables)  # else every step is traced twice
    history = model.fit(
        *(images, masks),
        batch_size=4,
        epochs=2,
        verbose=0,
        validation_data=None if whole else (images[:6], masks[:6]),
        callbacks=[monitor(images)] if monitor else [],
    ).history
    return model, {k: v for k, v in history.items() if not k.startswith("redundancy")}


@pytest.mark.parametrize("steps_per_execution", [1, 4])
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("network", NETWORKS)
def test_weights_and_history_are_identical(network, jit_compile, steps_per_execution):
    options = {"jit_compile": jit_compile, "steps_per_execution": steps_per_execution}
    plain, history = trained(network, None, options)
    sources = {
        "images": lambda images: NASMonitorCallback(images[:5]),
        "batches": lambda images: NASMonitorCallback(),
    }
    for source, monitor in sources.items():
        watched, same_history = trained(network, monitor, options)
        assert same_history == history, source
        for one, other in zip(plain.weights, watched.weights, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy(), f"{source}: {one.path}")
