"""Images with their targets, in batches that leave no trace on the models that they are for."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import keras

from ..statistics.types import Images
from .datasets import unshuffled
from .image_batches import batches_with_targets, has_targets, is_dataset
from .kept_state import kept_generators, kept_variables
from .layer_inputs import common_batch_size


class Batch(NamedTuple):
    """Some images.

    Attributes:
        start: Number of its first image.
        images: The images, as a model takes them.
        targets: Their targets, or None.
        size: How many images there are.
        used: How many of them, from the first, are wanted.
    """

    start: int
    images: Images
    targets: Any
    size: int
    used: int


class TargetedImages:
    """Images that are read repeatedly, always the same ones in the same order.

    Args:
        images: Arrays or a dataset, as `InputMoments` takes them.
        targets: Arrays, or None.
        loss: What the targets are for, or None.

    Raises:
        ValueError: There are no images, not as many targets, or only one of targets and loss.
    """

    def __init__(self, images: Images, targets: Any, loss: Any):
        if images is None:
            raise ValueError("Expected images to measure. Received: None")
        self._images, self._targets = unshuffled(images), targets
        if targets is not None:
            _check_targets(images, targets, loss)
        elif loss is not None and not has_targets(self._images):
            raise ValueError(
                f"Expected targets for the loss. Received: loss={loss!r} without targets. Give "
                "`targets`, or a dataset of (images, targets)"
            )

    @contextmanager
    def read(
        self, models: Sequence[keras.Model], largest: int, wanted: float = math.inf
    ) -> Iterator[Iterator[Batch]]:
        """Gives batches to run models on; afterwards every variable has its value back.

        Args:
            models: The models, built.
            largest: Most images of a batch, unless a model has a fixed batch size.
            wanted: Most images in all. Defaults to all there are.

        Yields:
            The batches.

        Raises:
            ValueError: There are no images, or they do not fit the models' batch size.
        """
        size = common_batch_size(models)
        with ExitStack() as kept:
            kept.enter_context(kept_generators())
            for model in models:
                kept.enter_context(kept_variables(model))
            yield self._batches(size, largest, wanted)

    def _batches(self, size: int | None, largest: int, wanted: float) -> Iterator[Batch]:
        start = 0
        pairs = batches_with_targets(self._images, self._targets, size=size, largest=largest)
        for images, targets in pairs:
            count = len(keras.tree.flatten(images)[0])
            used = int(min(count, wanted - start))
            yield Batch(start, images, targets, count, used)
            start += used
            if start == wanted:
                break
        if not start:
            raise ValueError("Expected at least one image to measure. Received: none")


def _check_targets(images: Images, targets: Any, loss: Any) -> None:
    """Refuses targets without a loss, beside a dataset, or of another number than images."""
    if loss is None:
        raise ValueError(
            "Expected a loss for the targets. Received: targets without a loss. Give `loss`, such "
            "as the one that the model was compiled with"
        )
    if is_dataset(images):
        raise ValueError(
            "Expected targets inside the dataset, as (images, targets). Received: a dataset of "
            "images, and targets of their own"
        )
    lengths = [{len(x) for x in keras.tree.flatten(part)} for part in (images, targets)]
    if lengths[0] != lengths[1]:
        counts = [" and ".join(map(str, sorted(each))) for each in lengths]
        raise ValueError(
            f"Expected as many targets as images. Received: {counts[0]} images and "
            f"{counts[1]} targets"
        )
