"""Which of a zoo network's widths each probe stands for, and what others would cost."""

import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from models import MODELS
from models.cost import model_cost
from monitoring.analysis.advice import Cost
from monitoring.records.files import whole_file
from monitoring.records.reading import RunFolder
from training.config import Config, validate


def stages_of(run: RunFolder) -> "Stages | None":
    """Finds which widths the probes stand for."""
    if not run.config:
        return None
    return Stages.of(validate(run.config, source=str(run.folder / "config.yaml")), run)


class Stages:
    """Which of a zoo network's widths each probe stands for.

    Attributes:
        config: Of the run.
        now: {probe: channels} of those probes that end an encoder stage or the bottleneck.
    """

    def __init__(self, config: Config, now: Mapping[str, int]):
        self.config, self.now = config, dict(now)
        self._counted = cache(self._count)

    @classmethod
    def of(cls, config: Config, run: RunFolder) -> "Stages | None":
        """Finds the stages; None where no probe stands for one."""
        if config.model.name not in MODELS:
            return None
        now = {
            probe: record.channels
            for probe, record in run.last.items()
            if probe.startswith(("probe_encoder_", "probe_bottleneck"))
        }
        return cls(config, now) if now else None

    def arguments(self, widths: Mapping[str, int]) -> dict:
        """Returns `filters` and `bottleneck` for the builder."""
        settings = self.config.model
        defaults = inspect.signature(MODELS[settings.name]).parameters
        filters = list(settings.filters or defaults["filters"].default)
        bottleneck = settings.bottleneck or defaults["bottleneck"].default
        for probe, width in widths.items():
            if probe == "probe_bottleneck":
                bottleneck = width
            elif probe.startswith("probe_encoder_"):
                filters[int(probe.rsplit("_", 1)[1]) - 1] = width
        return {"filters": tuple(filters), "bottleneck": bottleneck}

    def cost(self, widths: Mapping[str, int]) -> Cost:
        """Builds the network at {probe: width} and counts it."""
        arguments = self.arguments(widths)
        return self._counted(arguments["filters"], arguments["bottleneck"])

    def _count(self, filters: tuple[int, ...], bottleneck: int) -> Cost:
        settings = self.config.model
        shape = (*settings.input_size, 3)
        cost = model_cost(MODELS[settings.name](shape, filters, bottleneck))
        return Cost(cost.parameters, cost.macs, cost.peak_activation_bytes)


def write_advised(path: Path, stages: Stages, widths: Mapping[str, int]) -> None:
    """Writes a configuration that trains the network at these widths."""
    model = stages.config.model.model_copy(update=stages.arguments(widths))
    config = stages.config.model_copy(update={"model": model})
    with whole_file(path) as draft:
        draft.write_text(
            f"# Widths that `python -m monitoring advise` has suggested for {path.parent.name}.\n"
            + config.to_yaml(),
            encoding="utf-8",
        )
