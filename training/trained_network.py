"""A trained network that segments images, whatever file it comes from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from monitoring.records.run_files import MODEL
from training.export.graph import read_graph
from training.model_files import load_model, without_structure
from training.outputs import Outputs
from training.receptive_field import Geometry, geometry, stride_of_sizes
from training.scaling import EIGHT_BITS
from training.settings import Config

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that segments images.

    Attributes:
        path: Its file.
        shape: Height, width and channels of the images that it takes.
        returned: Height, width and channels of what it puts out.
        outputs: What that means.
        run: From inputs, (images, height, width, channels), to outputs.
        model: The network in Keras. Defaults to None: it is a .tflite file.
        config: The configuration of its run. Defaults to None: it is a file by itself.
        prepare: From images as read to its inputs. Defaults to 0..255 to -1..1.
    """

    path: Path
    shape: Shape
    returned: Shape
    outputs: Outputs
    run: Callable[..., np.ndarray] = field(repr=False)
    model: keras.Model | None = field(repr=False, default=None)
    config: Config | None = field(repr=False, default=None)
    prepare: Callable[[np.ndarray], np.ndarray] = field(repr=False, default=EIGHT_BITS)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that it takes."""
        return self.shape[:2]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the probability of foreground, or of each class, float32.

        Args:
            images: (images, height, width, channels), as read.
        """
        values = self.outputs.probabilities(self.run(self.prepare(images)))
        return np.asarray(keras.ops.convert_to_numpy(values), np.float32)

    def check_depth(self, image: np.ndarray, path: Path) -> None:
        """Raises a ValueError for an image of more than 8 bits where nothing tells its scale."""
        if image.dtype != np.uint8 and self.prepare == EIGHT_BITS:
            raise ValueError(
                f"{path} has more than 8 bits, and nothing says how its values are scaled: use a "
                "run with data.mean and data.scale, or --preprocess none for values as they are"
            )

    def geometry(self) -> Geometry:
        """Returns how it sees an image; of a .tflite file in a run, that of the run's network."""
        if self.model is not None:
            return geometry(self.model)
        beside = self.path.with_name(MODEL)
        if self.config is not None and beside.is_file():
            return geometry(without_structure(load_model(beside)))
        tensors = read_graph(self.path.read_bytes()).tensors
        return Geometry(stride_of_sizes(self.size, [tensor.shape for tensor in tensors]), None)


def other_task(path: Path, taken: tuple, returned: tuple) -> str:
    """Returns the error for a network that does not segment images."""
    return (
        "Expected a network from images (batch, height, width, channels) to masks of the same "
        f"form. Received: {path}, which takes {tuple(taken)} and puts out {tuple(returned)}, as "
        "one for another task does"
    )
