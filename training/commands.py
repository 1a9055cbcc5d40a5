"""`advise` and `analyze` with the zoo's networks and with images from folders."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from monitoring.analysis.advice import DEFAULT_RULE
from monitoring.analysis.ladder import SHARES, Ladder, check_shares
from monitoring.analysis.model_analysis import Analysis
from monitoring.analysis.run_advice import Advice
from monitoring.records.reading import read_run
from monitoring.records.run_files import ADVISED, checked_folder, expanded
from monitoring.report.advise import advise as advise_run
from monitoring.report.analyze import analyze as analyze_model
from training.mask_options import Colour, mask_options
from training.model_files import load_model, without_structure
from training.model_images import image_shape, output_shape, preprocessing, read_model_images
from training.model_ladder import model_ladder
from training.output_kind import last_activation
from training.outputs import Outputs, outputs_of
from training.run_ladder import run_ladder
from training.stages import stages_of, write_advised


def advise(
    run: str | Path,
    *,
    rule: str = DEFAULT_RULE,
    multiple: int = 4,
    parameters: int | None = None,
    macs: int | None = None,
    peak_ram: int | None = None,
    cut: str | Path | None = None,
    ladder: Sequence[float] | None = None,
    verbose: int = 0,
) -> Advice:
    """Advises a width for each stage of a run, and writes files into its folder.

    These are advice.json, report.html and, for a network of the zoo, advised.yaml, a
    configuration that trains the network at these widths.

    Args:
        run: A folder written by train.py, or by a monitor with a `log_dir`.
        rule: "effective_rank", "participation_ratio" or "variance". Defaults to
            "effective_rank".
        multiple: Widths are rounded up to a multiple of this. Defaults to 4.
        parameters: Budget: most weights. Defaults to None: no limit.
        macs: Budget: most multiply-adds per image. Defaults to None: no limit.
        peak_ram: Budget: most bytes of activations at their peak, in INT8. Defaults to
            None: no limit.
        cut: A data folder; the trained network is cut to several budgets on its training
            images, and scored on its validation images. "" is the run's own data. Defaults to
            None: not measured.
        ladder: The budgets, as fractions of the multiply-adds. Defaults to None: 0.75, 0.5,
            0.35, 0.25 and 0.125.
        verbose: 0 is silent; otherwise each budget is a line on the console. Defaults to 0.

    Returns:
        The advice; `str` of it is the tables as text.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no records.
        ValueError: As for `monitoring.advise`; or the run has not finished, and its network
            cannot be cut.

    Example:
        >>> advice = advise("runs/first", macs=1_500_000)  # doctest: +SKIP
        >>> print(advice)  # doctest: +SKIP
    """
    folder = expanded(run)
    shares = _shares(cut is not None, ladder)
    read = read_run(folder)
    stages = stages_of(read)
    measure = None
    if cut is not None:
        measure = partial(
            run_ladder, folder, list(read.records), shares, data=str(cut), verbose=verbose
        )
    advice = advise_run(
        folder,
        rule=rule,
        multiple=multiple,
        parameters=parameters,
        macs=macs,
        peak_ram=peak_ram,
        network=stages,
        ladder=measure,
    )
    if stages is not None:
        write_advised(folder / ADVISED, stages, advice.widths)
    return advice


def analyze(
    model: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    layers: Sequence[str] | None = None,
    imports: Sequence[str] = (),
    preprocess: str = "zoo",
    foreground: Sequence[int | Colour] | None = None,
    ignore: Sequence[int | Colour] = (),
    alpha: str | None = None,
    classes: int | Sequence[str] | None = None,
    input_size: Sequence[int] | None = None,
    outputs: str | None = None,
    data_format: str | None = None,
    max_positions: int | None = 400,
    output: str | Path | None = None,
    rule: str = DEFAULT_RULE,
    multiple: int = 4,
    cut: bool = False,
    ladder: Sequence[float] | None = None,
    verbose: int = 0,
) -> Analysis:
    """Measures any saved model on a folder of images, advises, and writes a folder.

    Args:
        model: A .keras file; it is loaded in safe mode.
        data: A folder of images, or of {train,val,test}/img and, for mIoU, mask.
        split: Which of these to measure on. Defaults to "val".
        layers: Names, "outer/inner/layer" where a bare name is not unique. Defaults to
            None: the model's probes or, if it has none, its output.
        imports: Modules that register the model's own classes; also looked for in the
            working directory. Defaults to none.
        preprocess: "zoo": -1..1; "none": 0..255; or a module of `keras.applications`, whose
            `preprocess_input` is used. Defaults to "zoo".
        foreground: Values or colours of the foreground in masks, as for `MaskOptions`. Defaults
            to None: masks are two classes by themselves.
        ignore: Values or colours in masks that are not scored. Defaults to none.
        alpha: "mask" or "ignore", where masks have an alpha channel. Defaults to None.
        classes: How many classes the masks have, or their names. Defaults to None: foreground and
            background.
        input_size: Height and width to resize images to. Defaults to None: the model's.
        outputs: What a model of masks puts out, "logits" or "probabilities", to score it where
            it is cut. Defaults to None: its last activation tells or, if that is unknown, its
            values.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
        max_positions: Most positions of an image to measure; None: all. Defaults to 400.
        output: Folder for the results. Defaults to None: MODEL-analysis beside the file.
        rule: As for `advise`.
        multiple: As for `advise`.
        cut: Whether the model is cut to several budgets on every second image, and scored on
            the others. Defaults to False.
        ladder: As for `advise`.
        verbose: As for `advise`.

    Returns:
        The analysis; `str` of it is the tables as text.

    Raises:
        FileNotFoundError: The file or the folder does not exist.
        ValueError: The model cannot be loaded or watched, its input is not grey or RGB images,
            it has several outputs, nothing tells what it puts out, an argument is impossible,
            or `output` holds a run or another analysis.
    """
    path = expanded(model)
    shares = _shares(cut, ladder)
    options = mask_options(foreground, ignore, alpha, classes=classes)
    _import_modules(imports)
    network = without_structure(load_model(path))
    last_activation(network)  # refuses a softmax over one channel
    folder = checked_folder(output) if output else path.with_name(f"{path.stem}-analysis")
    prepare = preprocessing(preprocess)
    shape = image_shape(network, input_size)
    returned = output_shape(network, shape)
    pictures, masked = read_model_images(expanded(data), split, shape, options)
    images = prepare(pictures)
    measure: Callable[[], Ladder] | None = None
    if cut:
        kind: Outputs | None = None
        channels = max(len(options.classes), 1)
        is_scored = masked is not None and returned == (*masked.masks.shape[1:3], channels)
        if is_scored and preprocess == "zoo" and getattr(network, "outputs", None):
            kind = outputs_of(network, options.classes, outputs, images)
        measure = partial(
            model_ladder,
            network,
            images,
            masked,
            shares,
            outputs=kind,
            names=layers,
            data_format=data_format,
            verbose=verbose,
        )
    return analyze_model(
        network,
        images,
        layers,
        rule=rule,
        multiple=multiple,
        data_format=data_format,
        max_positions=max_positions,
        ladder=measure,
        output=folder,
        source=str(path),
    )


def _shares(cut: bool, ladder: Sequence[float] | None) -> list[float]:
    """Returns the budgets of a ladder.

    Raises:
        ValueError: They are impossible, or nothing is cut.
    """
    if ladder is not None and not cut:
        raise ValueError(
            "A ladder belongs to cutting: pass cut (--cut) as well. Received: ladder="
            f"{','.join(f'{share:g}' for share in ladder)}, no cut"
        )
    return check_shares(SHARES if ladder is None else ladder)


def _import_modules(names: Sequence[str]) -> None:
    """Imports modules, also from the working directory.

    Raises:
        ValueError: A module cannot be imported.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        for name in names:
            import_module(name)
    except ImportError as error:
        raise ValueError(f"--import {name}: {error}") from None
    finally:
        sys.path.pop(0)
