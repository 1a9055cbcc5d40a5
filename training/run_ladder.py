"""The ladder of a finished run: its network, cut to budgets on its own images."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from monitoring import InputMoments
from monitoring.analysis.ladder import Ladder
from monitoring.records.files import read_values
from monitoring.records.run_files import CONFIG, MODEL, expanded
from monitoring.taps.watched import Watched
from training.config import validate
from training.data import draw_pairs
from training.ladder import Measured, cut_ladder
from training.narrowing import IMAGES, scores
from training.outputs import Outputs
from training.parents import load_parent, parent_outputs
from training.split import Split
from training.splits import read_config_splits


def run_ladder(
    run: Path, probes: Sequence[str], shares: Sequence[float], *, data: str = "", verbose: int = 0
) -> Ladder:
    """Cuts a finished run's network to a ladder of budgets.

    Channels are chosen on training images as `train.py --narrow` chooses them, so that the
    networks are the same; scores are those of the validation split.

    Args:
        run: The run's folder.
        probes: Names of the layers whose channels are counted.
        shares: The budgets, as fractions of the multiply-adds, the largest first.
        data: A folder of images. Defaults to "": the run's own data.
        verbose: 0 is silent. Defaults to 0.

    Raises:
        ValueError: The run has not finished, or was not made by train.py, or its network is
            quantisation-aware.
        FileNotFoundError: The images are not there.
    """
    settings = run / CONFIG
    if not settings.is_file() or not (run / MODEL).is_file():
        raise ValueError(f"--cut needs a finished run of train.py: {MODEL} and {CONFIG} in {run}")
    config, model = validate(read_values(settings), source=str(settings)), load_parent(run)
    splits = read_config_splits(config, expanded(data) if data else None)
    images, masks = draw_pairs(splits.train, IMAGES, config.training.seed)
    inputs = splits.train.scaling(images)
    outputs = parent_outputs(model, config, inputs)
    moments = InputMoments(
        inputs, masks.astype(np.float32), outputs.image_losses, seed=config.training.seed
    )
    judge = mean_iou(splits.val, outputs)
    measured = Measured(moments, len(images), judge, "mIoU", channels_at(probes))
    if verbose:
        print(f"Cutting {run} on {len(images)} training images, which takes minutes:", flush=True)
    return cut_ladder(model, measured, shares, verbose=verbose)


def mean_iou(split: Split, outputs: Outputs) -> Callable[[keras.Model], float]:
    """Returns a function from a network to its mIoU on a split.

    Args:
        split: Images and masks.
        outputs: What the network puts out.
    """
    return lambda network: float(scores(network, split, outputs)["miou"])


def channels_at(
    names: Sequence[str] | None, data_format: str | None = None
) -> Callable[[keras.Model], dict[str, int]]:
    """Returns a function from a network to {layer: its channels}.

    Args:
        names: Names or paths of layers. None: the network's probes or, if it has none, its
            output.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
    """

    def channels(network: keras.Model) -> dict[str, int]:
        watched = Watched(network, names, data_format)
        return {
            name: int(keras.tree.flatten(layer.output)[0].shape[watched.channel_axis])
            for name, layer in watched.layers.items()
        }

    return channels
