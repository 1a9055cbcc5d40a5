"""Watches SegFormer and DeepLabV3 of KerasHub, and holds each trace against Keras' own predict.

    pip install keras-hub        # in an environment of its own
    python tests/keras_hub_table.py

The networks have the configurations of presets, with random weights. A task is given raw images,
which it preprocesses in `predict`; a backbone is given the preprocessed ones.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_hub
import numpy as np
from applications_table import HEADING, compared

SIDE, IMAGES = 64, 4


def segformer():
    """SegFormer B0, as preset segformer_b0_ade20k_512."""
    encoder = keras_hub.models.MiTBackbone(
        image_shape=(SIDE, SIDE, 3),
        hidden_dims=[32, 64, 160, 256],
        layerwise_depths=[2, 2, 2, 2],
        num_layers=4,
        layerwise_num_heads=[1, 2, 5, 8],
        layerwise_sr_ratios=[8, 4, 2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3, 3, 3],
        layerwise_strides=[4, 2, 2, 2],
    )
    backbone = keras_hub.models.SegFormerBackbone(image_encoder=encoder, projection_filters=256)
    converter = keras_hub.layers.SegFormerImageConverter(image_size=(SIDE, SIDE), scale=1 / 255)
    preprocessor = keras_hub.models.SegFormerImageSegmenterPreprocessor(converter)
    task = keras_hub.models.SegFormerImageSegmenter(
        backbone=backbone, num_classes=150, preprocessor=preprocessor
    )
    return backbone, task


def deeplab():
    """DeepLabV3+ on ResNet-50, as preset deeplab_v3_plus_resnet50_pascalvoc."""
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(SIDE, SIDE, 3),
    )
    backbone = keras_hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        projection_filters=48,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[6, 12, 18],
    )
    converter = keras_hub.layers.DeepLabV3ImageConverter(image_size=(SIDE, SIDE), scale=1 / 255)
    preprocessor = keras_hub.models.DeepLabV3ImageSegmenterPreprocessor(converter)
    task = keras_hub.models.DeepLabV3ImageSegmenter(
        backbone=backbone, num_classes=21, preprocessor=preprocessor
    )
    return backbone, task


def main() -> None:
    """Prints the table."""
    raw = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3)).astype("float32")
    print(HEADING)
    for name, build in (("SegFormer B0", segformer), ("DeepLabV3+ ResNet-50", deeplab)):
        backbone, task = build()
        inputs = np.asarray(task.preprocess_samples(raw))
        print(compared(f"{name}, backbone", backbone, inputs), flush=True)
        print(compared(f"{name}, task", task, raw, inputs), flush=True)


if __name__ == "__main__":
    main()
