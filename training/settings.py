"""The sections of a configuration: every key, its type, its range and its default."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.mask_options import MaskOptions, mask_options
from training.setting_types import (
    AbsolutePath,
    Accelerator,
    Amount,
    Bytes,
    Count,
    Folder,
    Fraction,
    MaskValues,
    Names,
    NotNegative,
    Positive,
    StageWidth,
    Widths,
)


class Section(BaseModel):
    """Is frozen, and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelConfig(Section):
    """The network; where a width is None, its builder's default is used.

    Widths are those of a stage, or a list with one for each of its blocks.
    """

    name: str = "nano_u"
    input_size: Annotated[tuple[Count, Count], Field(strict=False)] = (60, 80)
    filters: Widths | None = None
    bottleneck: StageWidth | None = None
    decoder_filters: Widths | None = None
    late_upsampling: bool = False
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


class DataConfig(Section):
    """Where images come from.

    `root`: a folder, or None for scenes that the project draws itself. `foreground`, `ignore`
    and `alpha`: how masks are read that are not two classes by themselves; see `MaskOptions`.
    """

    root: AbsolutePath | None = None
    foreground: MaskValues | None = None
    ignore: MaskValues | None = None
    alpha: Literal["mask", "ignore"] | None = None
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
        return self

    @property
    def masks(self) -> MaskOptions:
        """How masks are read."""
        return mask_options(self.foreground, self.ignore or (), self.alpha)


class TrainingConfig(Section):
    """The optimisation.

    If `early_stopping_patience` is None, training never stops early. `quantization_aware`:
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
    quantization_aware: bool = False
    quantization_start: Annotated[Fraction, Field(lt=1)] = 0.75
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class DistillationConfig(Section):
    """The teacher and the weight of its answers.

    `teacher`: a run's folder, a .keras file, or None. `teacher_outputs`: what it puts out; if
    None, its last activation tells.
    """

    teacher: AbsolutePath | None = None
    teacher_outputs: Literal["logits", "probabilities"] | None = None
    alpha: Fraction = 0.5
    temperature: Positive = 4.0


BUDGETS = {  # {cost, as `models.cost` names it: key of a budget}
    "macs": "macs",
    "parameters": "parameters",
    "peak_activation_bytes": "peak_ram",
    "peak_overlapped_bytes": "overlapped_ram",
}


class NarrowConfig(Section):
    """A trained network that is cut down and fine-tuned, in place of one that is built anew.

    `parent`: a run's folder, a .keras file, or None. `outputs`: what it puts out; if None, its
    last activation tells. `macs` (multiply-adds per image), `parameters` and `peak_ram` (bytes of
    activations at their peak in INT8) are the most that may be left; None: no limit. So is
    `overlapped_ram`, the same peak if outputs may lie over inputs. `arena`: most bytes that the
    exported INT8 file needs; it becomes one of the two. `rounds`: how often it is cut and
    fine-tuned; they share the epochs. `multiple`: widths are multiples of it, where the parent's
    layers had as many channels. `teacher`: whether it learns from the parent's answers, too.
    """

    parent: AbsolutePath | None = None
    outputs: Literal["logits", "probabilities"] | None = None
    macs: Amount | None = None
    parameters: Amount | None = None
    peak_ram: Bytes | None = None
    overlapped_ram: Bytes | None = None
    arena: Bytes | None = None
    rounds: Count = 1
    multiple: Count = 1
    teacher: bool = False

    @property
    def budget(self) -> dict[str, int]:
        """{cost, as `models.cost` names it: the most that is allowed}."""
        limits = {cost: getattr(self, key) for cost, key in BUDGETS.items()}
        return {cost: limit for cost, limit in limits.items() if limit is not None}

    def with_budget(self, budget: Mapping[str, int]) -> "NarrowConfig":
        """Returns these settings with another budget."""
        return self.model_copy(update={key: budget.get(cost) for cost, key in BUDGETS.items()})


class NasConfig(Section):
    """The monitor. If `probe_layers` is None, it watches the model's probes."""

    enabled: bool = False
    monitor_frequency: Literal["epoch", "batch"] = "epoch"
    log_frequency: Count = 1
    redundancy_weight: NotNegative = 0.0
    redundancy_warmup: Annotated[int, Field(ge=0)] = 0
    probe_layers: Annotated[Names, Field(min_length=1)] | None = None
    monitor_images: Annotated[int, Field(ge=0)] = 64
    max_positions: Annotated[int, Field(ge=1)] | None = 400


class ExportConfig(Section):
    """The file for a device; if `format` is None, none is written.

    `arena_plan`: "overlap" lets outputs lie over inputs in the arena. `vela`: the Arm NPU for
    which Arm's compiler estimates time and memory; None: none.
    """

    format: Literal["int8"] | None = None
    tolerance: NotNegative = 1.0
    header: bool = False
    arena_plan: Literal["plain", "overlap"] = "plain"
    vela: Accelerator | None = None


class PipelineConfig(Section):
    """The teacher of `--pipeline`.

    If `teacher_epochs` is None, its configuration decides. `narrow_epochs`: of fine-tuning the
    narrowed teacher; if None, 15.
    """

    teacher: str = "bu_net"
    teacher_epochs: Count | None = None
    narrow_epochs: Count | None = None


class OutputConfig(Section):
    """The run's folder; if `folder` is None, runs/<model>-<date>-<time>."""

    folder: Folder | None = None
    predictions: Count = 6


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
