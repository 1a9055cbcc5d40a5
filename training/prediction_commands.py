"""`python -m training predict` and `evaluate`: their options, and what they print."""

import argparse
from collections.abc import Sequence
from typing import Any

from monitoring.command_line import mask_values, names, numbers, printable, quiet_start
from monitoring.records.run_files import expanded

OF_MASKS = ("foreground", "ignore", "alpha")


def add_predict_options(options: argparse.ArgumentParser) -> None:
    """Adds the options of `predict`."""
    options.add_argument("model", metavar="MODEL", help="a run's folder, .keras or .tflite file")
    options.add_argument(
        "images", nargs="+", metavar="IMAGES", help="a folder, a file, or a pattern in quotes"
    )
    options.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    options.add_argument(
        "--as",
        dest="kinds",
        type=names,
        default=("masks",),
        metavar="KIND,KIND",
        help="masks (PNG of class numbers; 0 and 255 for one class; default), probabilities "
        "(float32 .npy), overlays (PNG in colours, with a legend)",
    )
    options.add_argument(
        "--size",
        choices=("resize", "tile"),
        default="resize",
        help="resize: to the network's size and back (default); tile: overlapping tiles",
    )
    options.add_argument(
        "--overlap", type=int, metavar="N", help="pixels that neighbouring tiles share"
    )
    _add_threshold(options)
    options.add_argument("--overwrite", action="store_true", help="replace files that exist")
    _add_network_options(options)


def predict(
    model: str,
    images: Sequence[str],
    output: str,
    *,
    kinds: Sequence[str] = ("masks",),
    **options: Any,
) -> None:
    """Writes predictions, and prints what has been done.

    Args:
        model: As for `predict_images`.
        images: As for `predict_images`.
        output: As for `predict_images`.
        kinds: As for `predict_images`. Defaults to masks.
        **options: As for `predict_images`.
    """
    with quiet_start():
        from training.prediction import predict_images
    done = predict_images(model, images, output, kinds=kinds, verbose=1, **options)
    if done.left_out:
        listed = ", ".join(file.name for file in done.left_out[:3])
        more = ", ..." if len(done.left_out) > 3 else ""
        print(f"Left out, no images: {len(done.left_out)} files ({printable(listed)}{more})")
    if done.cutter is not None:
        print(_tiles(done.cutter, len(done.padded)))
    print(f"Written in {printable(output)}: {len(done.files)} files ({', '.join(kinds)})")


def add_evaluate_options(options: argparse.ArgumentParser) -> None:
    """Adds the options of `evaluate`."""
    options.add_argument("model", metavar="MODEL", help="a run's folder, .keras or .tflite file")
    options.add_argument(
        "--data", metavar="DIR", help="{train,val,test}/{img,mask} (default: the run's own)"
    )
    options.add_argument("--split", choices=("train", "val", "test"), default="test")
    _add_threshold(options)
    options.add_argument("--output", metavar="SCORES.json", help="also write all scores")
    options.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    options.add_argument(
        "--foreground",
        type=mask_values,
        metavar="V,V",
        help="values of the foreground in masks: greys, palette indices, or colours as #800000",
    )
    options.add_argument(
        "--ignore", type=mask_values, metavar="V,V", help="values that are not scored"
    )
    options.add_argument(
        "--alpha", choices=("mask", "ignore"), help="what the alpha channel of masks is"
    )
    _add_network_options(options)


def evaluate(
    model: str,
    data: str | None = None,
    *,
    split: str = "test",
    threshold: float | None = None,
    output: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Prints scores, and writes them.

    Args:
        model: As for `score_network`.
        data: As for `score_network`. Defaults to None.
        split: As for `score_network`. Defaults to "test".
        threshold: As for `score_network`. Defaults to None.
        output: A file of JSON. Defaults to None: nothing is written.
        overwrite: Whether that file may exist. Defaults to False.
        **options: Names in `OF_MASKS`, as for `mask_options`; others as for `read_network`.
    """
    with quiet_start():
        from training.evaluate import score_line, write_values
        from training.prediction_files import check_new
        from training.rescoring import score_network
    target = None if output is None else expanded(output)
    if target is not None:
        check_new(target, overwrite=overwrite)
    masks = {name: options.pop(name, None) for name in OF_MASKS}
    scored = score_network(
        model,
        data,
        split=split,
        threshold=threshold,
        masks={name: value for name, value in masks.items() if value is not None},
        verbose=1,
        **options,
    )
    print(score_line(scored.evaluation, split))
    if target is not None:
        write_values(target, scored.values)
        print(f"Written: {printable(output or '')}")


def _add_threshold(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="probability from which a pixel is foreground, for one class (default: 0.5)",
    )


def _add_network_options(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--classes",
        metavar="N",
        help="names of the classes: path,sky (default: the run's, or numbers)",
    )
    options.add_argument(
        "--outputs",
        choices=("logits", "probabilities"),
        help="what the network puts out (default: its last layer tells)",
    )
    options.add_argument(
        "--input-size", type=numbers, metavar="H,W", help="for a network of images of any size"
    )
    options.add_argument(
        "--preprocess",
        metavar="HOW",
        help="zoo (-1..1), none (0..255), or a module of keras.applications (default: as the run "
        "scales images, or zoo)",
    )


def _tiles(cutter: Any, padded: int) -> str:
    """Says how images were cut, and how many were smaller than a tile."""
    text = "Tiles of {}x{}, overlapping by {} rows and {} columns or more".format(
        *cutter.tile, *cutter.overlap
    )
    if cutter.is_exact:
        text += ": each pixel is as in the whole image"
    elif cutter.geometry.radius is None:
        text += ", fade into each other"
    else:
        text += (
            ", fade into each other: a pixel depends on {} rows and {} columns around it".format(
                *cutter.geometry.radius
            )
        )
    if padded:
        text += f"\nSmaller than a tile, and extended by reflection: {padded} images"
    return text
