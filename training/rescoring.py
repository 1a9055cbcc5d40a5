"""Scores a trained network on a split: the numbers of its run's evaluation.json, at any time."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.analysis.single_output import single_output
from monitoring.records.run_files import expanded
from training.class_scores import ClassEvaluation
from training.data import batches
from training.evaluate import Evaluation
from training.images import ImageOptions, read_pairs, read_split
from training.mask_options import MaskOptions, mask_options
from training.network_files import read_network
from training.pairs import SPLITS, pairs_in
from training.prediction import check_threshold
from training.progress import Progress
from training.scaling import EIGHT_BITS
from training.split import Split
from training.split_scores import score
from training.splits import read_config_splits
from training.trained_network import TrainedNetwork

BATCH = 16  # images, of a network that has no run


@dataclass(frozen=True)
class Rescored:
    """A network's scores.

    Attributes:
        evaluation: Over all pixels of the split together.
        values: What evaluation.json holds of them, with network, images and threshold.
    """

    evaluation: Evaluation | ClassEvaluation
    values: dict[str, Any]


def score_network(
    model: str | Path,
    data: str | Path | None = None,
    *,
    split: str = "test",
    threshold: float | None = None,
    masks: dict[str, Any] | None = None,
    verbose: int = 0,
    **options: Any,
) -> Rescored:
    """Scores a network on images with masks.

    Args:
        model: A run's folder, a .keras file or a .tflite file.
        data: A folder {train,val,test}/{img,mask}. Defaults to None: the run's own images.
        split: Which of these. Defaults to "test".
        threshold: Probability from which a pixel is foreground, of one class. Defaults to None:
            0.5.
        masks: How masks are read, as for `mask_options`. Defaults to None: as the run reads them.
        verbose: 0 is silent; otherwise progress is shown. Defaults to 0.
        **options: As for `read_network`.

    Raises:
        FileNotFoundError: There is no such network, or there are no images.
        ValueError: The network or the images cannot be used, or an option is impossible.
    """
    network = read_network(model, **options)
    classes = network.outputs.classes
    check_threshold(threshold, classes)
    if network.returned[:2] != network.size:
        raise ValueError(
            f"{network.path} puts out {network.returned[0]}x{network.returned[1]} pixels for "
            f"images of {network.size[0]}x{network.size[1]}: it cannot be scored by their masks"
        )
    images = read_scored_split(network, data, split, masks)
    border = 0.0 if threshold is None else float(np.log(threshold / (1 - threshold)))
    batch = BATCH if network.config is None else network.config.training.batch_size
    progress = Progress(len(images), "images") if verbose else None
    scores, _ = score(
        images,
        network.outputs,
        lambda part: network_values(network, part, batch, progress),
        batch=batch,
        border=border,
    )
    evaluation = scores.evaluation
    values = asdict(evaluation) | {
        "split": split,
        "network": str(network.path),
        "data": None if data is None else str(data),
        **({} if classes else {"threshold": 0.5 if threshold is None else threshold}),
        **scores.further(images),
    }
    return Rescored(evaluation, values)


def read_scored_split(
    network: TrainedNetwork,
    data: str | Path | None,
    split: str,
    masks: dict[str, Any] | None = None,
) -> Split:
    """Reads the images and masks of a split as a network takes them.

    Args:
        network: The network.
        data: As for `score_network`.
        split: As for `score_network`.
        masks: As for `score_network`. Defaults to None.

    Raises:
        FileNotFoundError: There are no images, or no masks.
        ValueError: They cannot be used.
    """
    config, options = network.config, _mask_options(network, masks)
    own = None if config is None else config.data.root
    root = expanded(data) if data is not None else None if own is None else Path(own)
    folder = None if root is None else root / split
    if config is not None and options == config.data.masks:
        is_own = data is None or str(expanded(data).absolute()) == own
        if is_own or folder is None or not (folder / "mask").is_dir():
            found: Split = getattr(read_config_splits(config, root), split)
            return found
    if folder is None:
        raise ValueError(f"{network.path} names no folder of images to read: give --data")
    if not (folder / "mask").is_dir():
        raise FileNotFoundError(
            f"{folder / 'mask'} does not exist. Expected {root}/{split}/{{img,mask}}/"
        )
    scaling = EIGHT_BITS if config is None else config.data.scaling
    if network.shape[2] == 3 and scaling == EIGHT_BITS:
        return read_split(folder, network.size, **vars(options))
    pairs = dict.fromkeys(SPLITS, pairs_in(folder))  # it reads three splits
    return read_pairs(pairs, ImageOptions(network.size, network.shape[2], scaling), options).test


def network_values(
    network: TrainedNetwork, split: Split, batch: int, progress: Progress | None = None
) -> np.ndarray:
    """Returns outputs as a run computes them, (images, height, width, channels).

    Args:
        network: The network.
        split: The images.
        batch: Images per batch.
        progress: Is told of each image. Defaults to None.
    """
    values = []
    if network.model is not None and network.prepare == split.scaling:
        values = [
            single_output(network.model, network.model.predict(batches(split, batch), verbose=0))
        ]
        if progress is not None:
            progress.step(len(split))
    else:
        for number in range(len(split)):
            image = split.images[number : number + 1]
            values.append(network.run(network.prepare(image)))
            if progress is not None:
                progress.step()
    return np.concatenate(values)


def _mask_options(network: TrainedNetwork, masks: dict[str, Any] | None) -> MaskOptions:
    """Returns how masks are read: as the user says, else as the run does."""
    classes = network.outputs.classes
    of_run = None if network.config is None else network.config.data.masks
    if masks or of_run is None or of_run.classes != classes:
        return mask_options(**(masks or {}), classes=classes)
    return of_run
