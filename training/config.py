"""Reads the configuration of a run.

The command line overrides the user's file, which overrides configs/<model>.yaml, which
overrides the defaults in `training.settings`. For a network that is narrowed, the settings of its
parent stand in place of configs/<model>.yaml.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from monitoring.records.files import read_values
from monitoring.records.run_files import expanded
from training.sections import NarrowConfig
from training.settings import Config, ModelConfig

DEFAULT_PROBES = ("encoder", "bottleneck")
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def read_config(
    path: str | Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    origin: str = "command line",
    for_pipeline: bool = False,
) -> Config:
    """Resolves a run's configuration.

    Args:
        path: The user's file, with the keys that it changes. Defaults to None: no file.
        overrides: {section: {key: value}} that override the file.
        origin: Where these come from, for errors. Defaults to "command line".
        for_pipeline: Whether narrow.parent may be absent beside a budget, since a pipeline trains
            it. Defaults to False.

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
    chosen = merge(values, overrides)
    if chosen.get("narrow", {}).get("parent") is not None:
        from training.narrow_settings import narrow_config  # it needs Keras

        return narrow_config(chosen)
    defaults = shipped_settings(chosen.get("model", {}).get("name", ModelConfig().name))
    config = validate(merge(defaults, chosen), source="configuration")
    if config.model.weights is not None:
        config = _with_widths(config)
    if config.narrow != NarrowConfig() and not for_pipeline:
        raise ValueError(
            "A budget and the other settings of narrow need narrow.parent (--narrow): there is "
            "nothing to cut"
        )
    if config.nas.enabled and not config.model.probes and config.nas.probe_layers is None:
        # Without probes, the monitor would watch the single output channel.
        model = config.model.model_copy(update={"probes": DEFAULT_PROBES})
        config = config.model_copy(update={"model": model})
    return config


def _with_widths(config: Config) -> Config:
    """Returns a configuration with widths where it has none: those of its weights.

    Raises:
        ValueError: There are no such weights.
    """
    from models import pretrained_settings  # it needs Keras

    settings = pretrained_settings(config.model.name, str(config.model.weights))
    missing = {key: value for key, value in settings.items() if getattr(config.model, key) is None}
    model = ModelConfig.model_validate(config.model.model_dump(exclude_none=True) | missing)
    return config.model_copy(update={"model": model})


def shipped_settings(name: str) -> dict[str, Any]:
    """Returns the settings in configs/<name>.yaml, none for an unknown network."""
    shipped = CONFIGS / f"{name}.yaml"
    # An unknown name is refused where networks are built.
    settings: dict[str, Any] = read_values(shipped, _UniqueKeys) if shipped.is_file() else {}
    return settings


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


def merge(below: Mapping, above: Mapping) -> dict:
    """Returns both mappings in one; `above` overrides `below` key by key in each section."""
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if nested else value
    return merged
