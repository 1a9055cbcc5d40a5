"""The sections of a configuration that say what is done with a network beside its training."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from training.setting_types import (
    AbsolutePath,
    Accelerator,
    Amount,
    Bytes,
    Count,
    Folder,
    Fraction,
    Names,
    NotNegative,
    Positive,
    Section,
)


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


class SearchConfig(Section):
    """The search of a network for a device; its limits are the budget of section `narrow`.

    `trials`: networks that are proposed. `storage`: of Optuna, as a URL; if None, a file of SQLite
    in the output folder. `workers`: processes on this machine.
    """

    trials: Count = 16
    storage: str | None = None
    workers: Count = 1


class OutputConfig(Section):
    """The run's folder; if `folder` is None, runs/<model>-<date>-<time>."""

    folder: Folder | None = None
    predictions: Count = 6
