"""Writes what torch_pruning_table.py reads: images, and networks layer by layer.

    python tests/torch_pruning_export.py --parent RUN --folder WORK --seeds 0 1 2 3 4

writes WORK/images.npz and, unless they are there, the parent, the network that `models.narrow`
cuts out of it, and for each seed the default Nano_U before any training. Each file holds the
logits and scores that Keras gives, so that the port can be checked.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import checkout  # noqa: F401
import keras
import numpy as np

from models import Nano_U, narrow
from models.cost import model_cost
from monitoring import InputMoments
from training.data import draw_pairs, scale
from training.narrow_settings import narrow_config
from training.narrowing import IMAGES, scores
from training.outputs import FOREGROUND
from training.parents import load_parent
from training.split import Split, Splits
from training.splits import read_config_splits

CHECKED = 16  # validation images whose logits are compared


def layer_settings(layer: keras.layers.Layer) -> dict:
    """Returns a layer's kind, name and whatever it is built from besides its weights."""
    settings = {"kind": type(layer).__name__, "name": layer.name}
    if isinstance(layer, keras.layers.BatchNormalization):
        return {**settings, "epsilon": layer.epsilon, "momentum": layer.momentum}
    if isinstance(layer, keras.layers.MaxPooling2D):
        return {**settings, "size": layer.pool_size}
    if isinstance(layer, keras.layers.UpSampling2D):
        return {**settings, "size": layer.size}
    return settings


def write_network(path: Path, model: keras.Model, splits: Splits) -> None:
    """Writes a chain of layers, its weights, and what Keras computes with it."""
    layers = [each for each in model.layers if not isinstance(each, keras.layers.InputLayer)]
    arrays = {
        f"{layer.name}/{number}": weight
        for layer in layers
        for number, weight in enumerate(layer.get_weights())
    }
    images = scale(splits.val.images[:CHECKED])
    description = {
        "layers": [layer_settings(layer) for layer in layers],
        "macs": model_cost(model).macs,
        "parameters": model_cost(model).parameters,
        "val": scores(model, splits.val, FOREGROUND)["miou"],
        "test": scores(model, splits.test, FOREGROUND)["miou"],
    }
    logits = keras.ops.convert_to_numpy(model(images, training=False))
    np.savez(path, description=json.dumps(description), logits=logits, **arrays)
    print(path.name, {k: v for k, v in description.items() if k != "layers"}, flush=True)


def cut(parent: keras.Model, train: Split, macs: int) -> keras.Model:
    """Returns what `train.py --narrow` cuts out of a parent with seed 0."""
    images, masks = draw_pairs(train, IMAGES, 0)
    moments = InputMoments(scale(images), masks.astype("float32"), FOREGROUND.image_losses, seed=0)
    return narrow(parent, moments, {"macs": macs}).model


def untrained(seed: int, shape: tuple[int, ...]) -> keras.Model:
    """Returns Nano_U at its default widths, which cost 2,399,200 multiply-adds at 60x80."""
    keras.utils.set_random_seed(seed)
    return Nano_U(shape)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parent", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--macs", type=int, default=2_400_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    folder, name = options.folder, options.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {"narrow": {"parent": str(options.parent), "macs": options.macs}}
    splits = read_config_splits(narrow_config(chosen))
    if not (folder / "images.npz").is_file():
        arrays = {}
        for split in ("train", "val", "test"):
            arrays[f"{split}/images"] = getattr(splits, split).images
            arrays[f"{split}/masks"] = getattr(splits, split).masks
        np.savez(folder / "images.npz", **arrays)
    parent = load_parent(options.parent)
    builders = {
        f"{name}-parent": lambda: parent,
        f"{name}-narrow": lambda: cut(parent, splits.train, options.macs),
    }
    for seed in options.seeds:
        builders[f"scratch-{seed}"] = partial(untrained, seed, parent.input_shape[1:])
    for file, build in builders.items():
        if not (folder / f"{file}.npz").is_file():
            write_network(folder / f"{file}.npz", build(), splits)


if __name__ == "__main__":
    main()
