"""The sections of a configuration: every key, its type, its range and its default."""

from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from training.loss_names import CROSS_ENTROPY
from training.mask_options import MaskOptions, mask_options
from training.pairs import layout_of
from training.pixels import MOST_CHANNELS
from training.scaling import EIGHT_BITS, Scaling
from training.sections import (
    DistillationConfig,
    ExportConfig,
    NarrowConfig,
    NasConfig,
    OutputConfig,
    PipelineConfig,
    SearchConfig,
)
from training.setting_types import (
    AbsolutePath,
    Bytes,
    Classes,
    ClassValues,
    ClassWeights,
    Count,
    Fraction,
    Groups,
    Loss,
    MaskValues,
    Names,
    NotNegative,
    Numbers,
    Positive,
    PositiveNumbers,
    Section,
    Seed,
    Share,
    StageWidth,
    Widths,
)
from training.synthetic import CLASSES


class ModelConfig(Section):
    """The network; where a width is None, its builder's default is used.

    Widths are those of a stage, or a list with one for each of its blocks. `weights`: name of those
    to begin with, which decide the widths that are None; if None, they are random.
    """

    name: str = "nano_u"
    input_size: Annotated[tuple[Count, Count], Field(strict=False)] = (60, 80)
    filters: Widths | None = None
    bottleneck: StageWidth | None = None
    decoder_filters: Widths | None = None
    late_upsampling: bool = False
    weights: str | None = None
    probes: Names = ()


class AugmentationConfig(Section):
    """Ranges of the random changes to training images; 0 or False disables a change."""

    horizontal_flip: bool = True
    rotation: Annotated[NotNegative, Field(le=180)] = 0.0
    brightness: Fraction = 0.1
    contrast: Fraction = 0.0
    saturation: Fraction = 0.0
    hue: Annotated[NotNegative, Field(le=0.5)] = 0.0

    @property
    def none(self) -> bool:
        """Whether images stay unchanged."""
        return not any(self.model_dump().values())


class SplitConfig(Section):
    """How images are split that are in one folder, or in too few.

    `val`, `test`: shares of the images to draw where a folder lacks these splits. `groups`: images
    of one group stay together: "prefix", a number of characters of the name, or a file; see
    `training.splitting.group_of`. `folds`: all images are split anew, so that each is in the test
    split of one fold, from 1; None: no folds.
    """

    val: Share = 0.15
    test: Share = 0.15
    seed: Seed = 0
    groups: Groups | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Count = 1

    @model_validator(mode="after")
    def _check_fold(self) -> "SplitConfig":
        if self.fold > (self.folds or 1):
            raise ValueError(f"expected fold from 1 to folds, {self.folds or 1}")
        return self


class DataConfig(Section):
    """Where images come from.

    `root`: a folder, or None for scenes that the project draws itself. `given`: if images came from
    Python, what tells them from others; it is set by `train`. `layout`, `image_pattern`
    and `mask_pattern`: where it keeps images and masks, see `training.pairs.Layout`; if None, as
    the folder looks. `split`: if None, as the folder is split. `channels`: 1 for grey, 3 for RGB, 4
    for RGBA, others as a TIFF or .npy has them. `mean` and `scale`: a number for each channel, or
    one for all; (value - mean) / scale is a network's input; if None, 0..255 becomes -1..1.
    `classes`: how many there are, or their names; if None or 1, foreground and background.
    `colours`, `foreground`, `ignore` and `alpha`: how masks are read that are not classes by
    themselves; see `MaskOptions`. `tiles`: images are cut into tiles of the network's size that
    share so many pixels; if None, they are resized. `memory`: bytes of decoded images and masks
    above which they are kept on disk, in the folder for temporary files.
    """

    root: AbsolutePath | None = None
    given: str | None = None
    layout: Literal["cityscapes", "voc"] | None = None
    image_pattern: str | None = None
    mask_pattern: str | None = None
    split: SplitConfig | None = None
    channels: Annotated[Count, Field(le=MOST_CHANNELS)] = 3
    mean: Numbers | None = None
    scale: PositiveNumbers | None = None
    classes: Classes | None = None
    colours: Annotated[dict[str, ClassValues], Field(min_length=2)] | None = None
    foreground: MaskValues | None = None
    ignore: MaskValues | None = None
    alpha: Literal["mask", "ignore"] | None = None
    tiles: Annotated[int, Field(ge=0)] | None = None
    memory: Bytes = 2 * 2**30
    augmentation: AugmentationConfig = AugmentationConfig()

    @model_validator(mode="before")
    @classmethod
    def _read_version_0_1(cls, values: Any) -> Any:
        """Reads `ignore_value`, as `ignore` was called in version 0.1."""
        if not isinstance(values, dict) or "ignore_value" not in values:
            return values
        values = dict(values)
        value = values.pop("ignore_value")
        if value is not None and values.get("ignore") is None:
            values["ignore"] = [value]
        return values

    @model_validator(mode="after")
    def _check_disjoint(self) -> "DataConfig":
        self.masks  # noqa: B018 - raises
        layout_of(self.layout, self.image_pattern, self.mask_pattern)
        self.scaling  # noqa: B018 - raises
        colours = (self.augmentation.saturation, self.augmentation.hue)
        if self.channels != 3 and any(colours):
            raise ValueError("augmentation.saturation and augmentation.hue need channels: 3")
        return self

    @property
    def scaling(self) -> Scaling:
        """How an image's values become a network's input."""
        if (self.mean is None) != (self.scale is None):
            raise ValueError("expected mean and scale, or neither")
        if self.mean is None or self.scale is None:
            return EIGHT_BITS
        parts = []
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            if len(values) not in (1, self.channels):
                raise ValueError(
                    f"{name}: expected 1 or {self.channels} numbers, as channels says. Received: "
                    f"{len(values)}"
                )
            parts.append(tuple(values) * (self.channels // len(values)))
        return Scaling(*parts)

    @property
    def masks(self) -> MaskOptions:
        """How masks are read."""
        classes = self.classes
        if self.root is None and self.given is None and classes == len(CLASSES):
            classes = CLASSES
        return mask_options(
            self.foreground,
            self.ignore or (),
            self.alpha,
            classes=classes,
            colours=self.colours,
        )


class TrainingConfig(Section):
    """The optimisation.

    If `early_stopping_patience` is None, training never stops early. `loss`: a name, or a sum of
    several; see `training.losses`. `class_weights`: "balanced", or one for each class, of which
    only the ratios matter; if None, all pixels count alike. `quantization_aware`:
    round weights and activations as INT8 will, nano_u only; activations from the fraction
    `quantization_start` of the epochs on.
    """

    epochs: Count = 60
    batch_size: Count = 8
    learning_rate: Positive = 1e-2
    weight_decay: NotNegative = 1e-4
    schedule: Literal["cosine", "plateau"] = "cosine"
    plateau_factor: Annotated[Positive, Field(lt=1)] = 0.2
    plateau_patience: Count = 10
    minimum_learning_rate: NotNegative = 1e-6
    early_stopping_patience: Count | None = None
    early_stopping_monitor: Literal["val_miou", "redundancy"] = "val_miou"
    loss: Loss = CROSS_ENTROPY
    class_weights: ClassWeights | None = None
    quantization_aware: bool = False
    quantization_start: Annotated[Fraction, Field(lt=1)] = 0.75
    seed: Seed = 0


class Config(Section):
    """A whole run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    distillation: DistillationConfig = DistillationConfig()
    narrow: NarrowConfig = NarrowConfig()
    nas: NasConfig = NasConfig()
    export: ExportConfig = ExportConfig()
    pipeline: PipelineConfig = PipelineConfig()
    search: SearchConfig = SearchConfig()
    output: OutputConfig = OutputConfig()

    @property
    def round_epochs(self) -> tuple[int, ...]:
        """The epochs of each round, as even as can be; a run that narrows nothing has one round."""
        rounds = self.narrow.rounds
        share, rest = divmod(self.training.epochs, rounds)
        return tuple(share + (number >= rounds - rest) for number in range(rounds))

    def to_yaml(self) -> str:
        """Returns YAML that `read_config` reads back as an equal configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
