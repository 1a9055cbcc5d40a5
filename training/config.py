"""The configuration: one frozen model of a YAML file, and where its values come from.

Command line beats the user's file beats configs/<model>.yaml beats the defaults here.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from monitoring.records.files import read_values

DEFAULT_PROBES = ("encoder", "bottleneck")
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def _number(value: Any) -> Any:
    """Refuses true and false, which Python counts as numbers."""
    if isinstance(value, bool):
        raise ValueError("input should be a number")
    return value


# YAML reads 1e-3 as a text, so numbers are allowed to be one.
Number = Annotated[float, BeforeValidator(_number), Field(strict=False, allow_inf_nan=False)]
NotNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Widths = Annotated[tuple[Count, ...], Field(strict=False, min_length=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class Section(BaseModel):
    """Cannot be changed, and takes no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelConfig(Section):
    """The network. `filters` and `bottleneck` of None are the builder's own widths."""

    name: str = "nano_u"
    input_size: Annotated[tuple[Count, Count], Field(strict=False)] = (60, 80)
    filters: Widths | None = None
    bottleneck: Count | None = None
    probes: Names = ()


class AugmentationConfig(Section):
    """Ranges of the random changes to training images; 0 or False: none."""

    horizontal_flip: bool = True
    rotation: Annotated[NotNegative, Field(le=180)] = 0.0
    brightness: Share = 0.1
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[NotNegative, Field(le=0.5)] = 0.0

    @property
    def none(self) -> bool:
        """Whether images are left as they are."""
        return not any(self.model_dump().values())


class DataConfig(Section):
    """Where images come from. `root` of None: scenes drawn by the project itself.

    `ignore_value`: grey value in masks of pixels that are neither learnt nor scored; None:
    there are none.
    """

    root: str | None = None
    ignore_value: Annotated[int, Field(ge=0, le=255)] | None = None
    augmentation: AugmentationConfig = AugmentationConfig()


class TrainingConfig(Section):
    """The optimisation; `early_stopping_patience` of None: never stop early.

    `quantization_aware`: round weights and activations as INT8 will; nano_u only. The
    rounding begins after the share `quantization_start` of the epochs.
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
    quantization_start: Annotated[Share, Field(lt=1)] = 0.75
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class DistillationConfig(Section):
    """The teacher, a run's folder or a .keras file, and how its answers are weighed.

    `teacher` of None: none.
    """

    teacher: str | None = None
    alpha: Share = 0.5
    temperature: Positive = 4.0


class NasConfig(Section):
    """The monitor. `probe_layers` of None: the model's probes."""

    enabled: bool = False
    monitor_frequency: Literal["epoch", "batch"] = "epoch"
    log_frequency: Count = 1
    redundancy_weight: NotNegative = 0.0
    redundancy_warmup: Annotated[int, Field(ge=0)] = 0
    probe_layers: Annotated[Names, Field(min_length=1)] | None = None
    monitor_images: Annotated[int, Field(ge=0)] = 64
    max_positions: Annotated[int, Field(ge=1)] | None = 400


class ExportConfig(Section):
    """The file for a device. `format` of None: none."""

    format: Literal["int8"] | None = None
    tolerance: NotNegative = 1.0
    header: bool = False


class PipelineConfig(Section):
    """The teacher of `--pipeline`. `teacher_epochs` of None: its own configuration's."""

    teacher: str = "bu_net"
    teacher_epochs: Count | None = None


class OutputConfig(Section):
    """The run's folder. `folder` of None: runs/<model>-<date>-<time>."""

    folder: str | None = None
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
        """Returns the text of a file that `read_config` reads back to an equal config."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def read_config(
    path: str | Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    origin: str = "command line",
) -> Config:
    """Resolves a run's configuration.

    Args:
        path: The user's file; it holds only what it changes. Defaults to None: none.
        overrides: {section: {key: value}} that beat the file.
        origin: Where these come from, for errors. Defaults to "command line".

    Returns:
        The configuration, every key set.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: A key is unknown, a value impossible, or the file is not YAML. One
            line that names the file and every such key.
    """
    values: dict = {}
    if path is not None:
        try:
            values = read_values(Path(path), _UniqueKeys)
        except FileNotFoundError:
            raise FileNotFoundError(f"Config file {path} is not there.") from None
        validate(values, source=str(path))
    overrides = overrides or {}
    validate(overrides, source=origin)
    name = _merge(values, overrides).get("model", {}).get("name", ModelConfig().name)
    shipped = CONFIGS / f"{name}.yaml"
    # A name that no file ships for is refused, with what there is, where networks are built.
    defaults = read_values(shipped, _UniqueKeys) if shipped.is_file() else {}
    config = validate(_merge(_merge(defaults, values), overrides), source="configuration")
    if config.nas.enabled and not config.model.probes and config.nas.probe_layers is None:
        # Probes are neutral, and a monitor without any would watch the one output channel.
        model = config.model.model_copy(update={"probes": DEFAULT_PROBES})
        config = config.model_copy(update={"model": model})
    return config


def validate(values: Any, *, source: str) -> Config:
    """Returns `values` as a Config, or says in one line what is wrong with them in `source`."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(part) for part in error.errors())
        raise ValueError(f"{source}: {problems}") from None


def _problem(error: Mapping[str, Any]) -> str:
    """Says in words what pydantic found, naming the key and what was received."""
    key = ".".join(str(part) for part in error["loc"]) or "file"
    if error["type"] == "extra_forbidden":
        known = _keys(error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return f"{key}: unknown key, {hint}"
    expected = error["msg"][0].lower() + error["msg"][1:]
    return f"{key}: {expected}. Received: {error['input']!r}"


def _keys(path: Sequence[Any]) -> list[str]:
    """Returns the keys of the section at `path`."""
    section: Any = Config
    for part in path:
        section = section.model_fields[part].annotation
    return list(section.model_fields)


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, where YAML would keep the last."""

    def construct_mapping(self, node, deep=False):
        """Returns the mapping of a node."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def _merge(below: Mapping, above: Mapping) -> dict:
    """Returns both, `above` winning key by key, section by section."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged
