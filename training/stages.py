"""Which width of a zoo network each probe stands for, and what other widths would cost."""

import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from models import MODELS
from models.cost import model_cost
from monitoring.analysis.advice import Cost
from monitoring.records.files import whole_file
from monitoring.records.reading import RunFolder, read_checked
from monitoring.records.run_files import CONFIG, NARROWING
from training.config import validate
from training.network import builder_options
from training.settings import Config


def stages_of(run: RunFolder) -> "Stages | None":
    """Returns the network of a run; None if none of its probes stands for a width of the zoo."""
    if not run.config:
        return None
    config = validate(run.config, source=str(run.folder / CONFIG))
    if config.narrow.parent is not None:
        narrowed = _rebuilt(run.folder / NARROWING, config)
        if narrowed is None:
            return None
        config = narrowed
    if config.model.name not in MODELS:
        return None
    now = {
        probe: record.channels
        for probe, record in run.last.items()
        if probe.startswith(("probe_encoder_", "probe_bottleneck"))
    }
    return Stages(config, now) if now else None


def _rebuilt(path: Path, config: Config) -> Config | None:
    """Returns a configuration that builds a narrowed network anew; None if no builder makes it.

    Args:
        path: The run's narrowing.json, which may be absent.
        config: The run's configuration, which does not hold the widths.
    """
    settings = read_checked(path).get("model") if path.is_file() else None
    if settings is None:
        return None
    sections = config.model_dump()
    sections["model"] |= settings
    sections |= {"narrow": {}, "distillation": {}}
    return validate(sections, source=str(path))


class Stages:
    """A run's network, which can be built at other widths.

    Attributes:
        config: The run's configuration.
        now: {probe: channels} of the probes that end an encoder stage or the bottleneck.
    """

    def __init__(self, config: Config, now: Mapping[str, int]):
        self.config, self.now = config, dict(now)
        self._count = cache(self._build_and_count)

    def arguments(self, widths: Mapping[str, int]) -> dict[str, Any]:
        """Returns the builder's `filters` and `bottleneck` at {probe: width}.

        A probe ends its stage: where each block has a width, and the last one gets another, those
        before get at most that one.
        """
        settings = self.config.model
        defaults = inspect.signature(MODELS[settings.name]).parameters
        filters = list(settings.filters or defaults["filters"].default)
        bottleneck = settings.bottleneck or defaults["bottleneck"].default
        for probe, width in widths.items():
            if width == self.now.get(probe):
                continue
            if probe == "probe_bottleneck":
                bottleneck = _at_most(bottleneck, width)
            elif probe.startswith("probe_encoder_"):
                index = int(probe.rsplit("_", 1)[1]) - 1
                filters[index] = _at_most(filters[index], width)
        return {"filters": tuple(filters), "bottleneck": bottleneck}

    def cost(self, widths: Mapping[str, int]) -> Cost:
        """Builds the network at {probe: width} and counts its cost."""
        arguments = self.arguments(widths)
        return self._count(arguments["filters"], arguments["bottleneck"])

    def _build_and_count(self, filters: tuple[Any, ...], bottleneck: Any) -> Cost:
        settings = self.config.model
        options = (
            builder_options(self.config)
            | {"weights": None}
            | {"filters": filters, "bottleneck": bottleneck}
        )
        cost = model_cost(
            MODELS[settings.name]((*settings.input_size, self.config.data.channels), **options)
        )
        return Cost(cost.parameters, cost.macs, cost.peak_activation_bytes)


def _at_most(blocks: int | tuple[int, ...], width: int) -> int | tuple[int, ...]:
    """Returns a stage's width, or its blocks', when the last one gets another width.

    Example:
        >>> _at_most(8, 6), _at_most((4, 8, 8), 6)
        (6, (4, 6, 6))
    """
    if isinstance(blocks, int):
        return width
    return (*(min(each, width) for each in blocks[:-1]), width)


def write_advised(path: Path, stages: Stages, widths: Mapping[str, int]) -> None:
    """Writes a configuration that trains the network at {probe: width}."""
    model = stages.config.model.model_copy(update=stages.arguments(widths))
    config = stages.config.model_copy(update={"model": model})
    name = path.parent.name.encode("utf-8", "backslashreplace").decode("utf-8")
    with whole_file(path) as draft:
        draft.write_text(
            f"# Widths that `python -m monitoring advise` has suggested for {name}.\n"
            + config.to_yaml(),
            encoding="utf-8",
        )
