"""`python -m training predict` and `evaluate`: their options, and what they print."""

import argparse
from typing import Any

from monitoring.command_line import mask_values, names, numbers, printable, quiet_start
from monitoring.records.run_files import expanded

OF_NETWORK = ("classes", "outputs", "input_size", "preprocess")
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


def predict(args: argparse.Namespace) -> None:
    """Writes predictions, and says what has been done."""
    with quiet_start():
        from training.prediction import predict_images
    given = dict(vars(args))
    given.pop("command")
    model, images, output = given.pop("model"), given.pop("images"), given.pop("output")
    done = predict_images(model, images, output, verbose=1, **given)
    if done.left_out:
        listed = ", ".join(file.name for file in done.left_out[:3])
        more = ", ..." if len(done.left_out) > 3 else ""
        print(f"Left out, no images: {len(done.left_out)} files ({printable(listed)}{more})")
    if done.cutter is not None:
        print(_tiles(done.cutter, len(done.padded)))
    print(f"Written in {printable(output)}: {len(done.files)} files ({', '.join(args.kinds)})")


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


def evaluate(args: argparse.Namespace) -> None:
    """Prints scores, and writes them."""
    with quiet_start():
        from training.evaluate import score_line, write_values
        from training.prediction_files import check_new
        from training.rescoring import score_network
    given = vars(args)
    target = None if args.output is None else expanded(args.output)
    if target is not None:
        check_new(target, overwrite=args.overwrite)
    scored = score_network(
        args.model,
        args.data,
        split=args.split,
        threshold=args.threshold,
        masks={name: given[name] for name in OF_MASKS if given[name] is not None},
        verbose=1,
        **{name: given[name] for name in OF_NETWORK},
    )
    print(score_line(scored.evaluation, args.split))
    if target is not None:
        write_values(target, scored.values)
        print(f"Written: {printable(args.output)}")


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
