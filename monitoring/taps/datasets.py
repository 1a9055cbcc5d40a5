"""TensorFlow's datasets, read in one order and without a trace."""

import sys
from typing import Any


def unshuffled(images: Any) -> Any:
    """Returns a dataset without its shuffling; anything else as it is.

    Each reading of a dataset that shuffles draws the next order, so measuring on the dataset
    that training reads would change the order in which training reads it.

    Raises:
        ValueError: The dataset shuffles and cannot be rebuilt without that.

    Example:
        >>> import tensorflow as tf
        >>> [int(number) for number in unshuffled(tf.data.Dataset.range(4).shuffle(4))]
        [0, 1, 2, 3]
    """
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None or not isinstance(images, tensorflow.data.Dataset):
        return images
    return _rebuilt(images) if _shuffles(images) else images


def _shuffles(dataset: Any) -> bool:
    is_shuffle = "Shuffle" in type(dataset).__name__
    return is_shuffle or any(_shuffles(part) for part in dataset._inputs())


def _rebuilt(dataset: Any) -> Any:
    import tensorflow as tf

    try:
        graph = tf.compat.v1.GraphDef.FromString(
            tf.raw_ops.DatasetToGraphV2(
                input_dataset=tf.data.experimental.to_variant(dataset), external_state_policy=1
            ).numpy()
        )
        replaced = {
            node.name: node.input[0] for node in graph.node if "Shuffle" in node.op and node.input
        }
        for node in graph.node:
            for number, name in enumerate(node.input):
                while name in replaced:
                    name = replaced[name]
                node.input[number] = name
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
        return tf.data.experimental.from_variant(variant, dataset.element_spec)
    except (tf.errors.OpError, ValueError) as error:  # ValueError: over 2 GB
        raise ValueError(
            "monitor_data shuffles, which would change the order of training if it reads the same "
            "dataset, and it cannot be read without. Give it without `shuffle`"
        ) from error
