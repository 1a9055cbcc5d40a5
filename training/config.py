"""The configuration: one frozen model of a YAML file, and where its values come from.

The command line overrides the user's file, which overrides configs/<model>.yaml, which
overrides the defaults here.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from monitoring.records.files import read_values
from monitoring.records.run_files import checked_folder, expanded

DEFAULT_PROBES = ("encoder", "bottleneck")
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def _number(value: Any) -> Any:
    """Refuses true and false, which Python counts as numbers."""
    if isinstance(value, bool):
        raise ValueError("input should be a number")
    return value


def _folder(path: Any) -> Any:
    """Expands `~`, and refuses a path that cannot be written into config.yaml."""
    return str(checked_folder(path)) if isinstance(path, str) else path


def _absolute(path: Any) -> Any:
    """Returns a path that means the same from any working directory."""
    return os.path.abspath(_folder(path)) if isinstance(path, str) else path


# YAML reads 1e-3 as a string, so numbers may be strings.
Number = Annotated[float, BeforeValidator(_number), Field(strict=False, allow_inf_nan=False)]
NotNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Widths = Annotated[tuple[Count, ...], Field(strict=False, min_length=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
AbsolutePath = Annotated[str, BeforeValidator(_absolute)]
Folder = Annotated[str, BeforeValidator(_folder)]


class Section(BaseModel):
    """Is frozen, and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelConfig(Section):
    """The network; where `filters` or `bottleneck` is None, its builder's default is used."""

    name: str = "nano_u"
    input_size: Annotated[tuple[Count, Count], Field(strict=False)] = (60, 80)
    filters: Widths | None = None
    bottleneck: Count | None = None
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

    `root`: a folder, or None for scenes that the project draws itself. `ignore_value`: grey
    value in masks of pixels that are neither learned nor scored, or None.
    """

    root: AbsolutePath | None = None
    ignore_value: Annotated[int, Field(ge=0, le=255)] | None = None
    augmentation: AugmentationConfig = AugmentationConfig()


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

    `teacher`: a run's folder, a .keras file, or None.
    """

    teacher: AbsolutePath | None = None
    alpha: Fraction = 0.5
    temperature: Positive = 4.0


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
    """The file for a device; if `format` is None, none is written."""

    format: Literal["int8"] | None = None
    tolerance: NotNegative = 1.0
    header: bool = False


class PipelineConfig(Section):
    """The teacher of `--pipeline`; if `teacher_epochs` is None, its configuration decides."""

    teacher: str = "bu_net"
    teacher_epochs: Count | None = None


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
    nas: NasConfig = NasConfig()
    export: ExportConfig = ExportConfig()
    pipeline: PipelineConfig = PipelineConfig()
    output: OutputConfig = OutputConfig()

    def to_yaml(self) -> str:
        """Returns YAML that `read_config` reads back as an equal configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def read_config(
    path: str | Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    origin: str = "command line",
) -> Config:
    """Resolves a run's configuration.

    Args:
        path: The user's file, with the keys that it changes. Defaults to None: no file.
        overrides: {section: {key: value}} that override the file.
        origin: Where these come from, for errors. Defaults to "command line".

    Returns:
        The configuration, every key set. Folders of images and teachers are absolute paths;
        `~` is expanded.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A key is unknown, a value is impossible, or the file is not YAML; the
            message is one line that names the file and every such key.
    """
    values: dict = {}
    if path is not None:
        try:
            values = read_values(expanded(path), _UniqueKeys)
        except FileNotFoundError:
            raise FileNotFoundError(f"Config file {path} does not exist.") from None
        validate(values, source=str(path))
    overrides = overrides or {}
    validate(overrides, source=origin)
    name = _merge(values, overrides).get("model", {}).get("name", ModelConfig().name)
    shipped = CONFIGS / f"{name}.yaml"
    # An unknown name is refused where networks are built.
    defaults = read_values(shipped, _UniqueKeys) if shipped.is_file() else {}
    config = validate(_merge(_merge(defaults, values), overrides), source="configuration")
    if config.nas.enabled and not config.model.probes and config.nas.probe_layers is None:
        # Without probes, the monitor would watch the single output channel.
        model = config.model.model_copy(update={"probes": DEFAULT_PROBES})
        config = config.model_copy(update={"model": model})
    return config


def validate(values: Any, *, source: str) -> Config:
    """Returns values as a Config.

    Raises:
        ValueError: A value is impossible; the message is one line that begins with `source`.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(part) for part in error.errors())
        raise ValueError(f"{source}: {problems}") from None


def _problem(error: Mapping[str, Any]) -> str:
    """Describes one error of pydantic's: the key, what was expected, what was received."""
    key = ".".join(str(part) for part in error["loc"]) or "file"
    if error["type"] == "extra_forbidden":
        known = _keys(error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return f"{key}: unknown key, {hint}"
    message = error["msg"].removeprefix("Value error, ")
    problem = f"{key}: {message[0].lower()}{message[1:]}"
    return problem if "Received: " in problem else f"{problem}. Received: {error['input']!r}"


def _keys(path: Sequence[Any]) -> list[str]:
    """Returns the keys of the section at `path`."""
    section: Any = Config
    for part in path:
        section = section.model_fields[part].annotation
    return list(section.model_fields)


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a duplicate key; plain YAML would use its last value."""

    def construct_mapping(self, node, deep=False):
        """Returns a node's mapping."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _merge(below: Mapping, above: Mapping) -> dict:
    """Returns both mappings in one; `above` overrides `below` key by key in each section."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged
