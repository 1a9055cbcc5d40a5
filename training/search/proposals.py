"""What a search proposes: how a network comes about, and how much of the limits it takes."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

SCRATCH, NARROWED = "scratch", "narrowed"
SHARES = (0.6, 1.0)  # of the limits
MULTIPLES = (1, 2, 4)
DECODERS = (0.5, 0.75, 1.0)


class Trial(Protocol):
    """What suggests values; Optuna's trials do."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Returns one of several values."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float) -> float:
        """Returns a number of a grid."""


@dataclass(frozen=True)
class Proposal:
    """How a network comes about.

    Attributes:
        start: "scratch": trained anew, every stage the same share of its width; "narrowed": cut
            out of the wide parent.
        late_upsampling: Whether a decoder stage's first block runs before its upsampling.
        share: Of the limits that it may take, above 0, up to 1.
        multiple: Widths of a narrowed network are multiples of it.
        decoder: Widths of the decoder of a network from scratch, as a share of the encoder's.
    """

    start: str
    late_upsampling: bool
    share: float = 1.0
    multiple: int = 1
    decoder: float = 1.0

    @property
    def values(self) -> dict[str, Any]:
        """The values of a trial that suggests it; none that make no difference."""
        values = asdict(self)
        del values["multiple" if self.start == SCRATCH else "decoder"]
        return values

    @property
    def is_uniform(self) -> bool:
        """Whether it is trained anew, with all stages alike."""
        return self.start == SCRATCH and self.decoder == 1


# Uniform widths from scratch are always among the networks.
FIRST = (
    Proposal(SCRATCH, late_upsampling=False),
    Proposal(SCRATCH, late_upsampling=True),
    Proposal(NARROWED, late_upsampling=False),
    Proposal(NARROWED, late_upsampling=True),
    Proposal(NARROWED, late_upsampling=False, multiple=4),
    Proposal(NARROWED, late_upsampling=True, multiple=4),
    Proposal(SCRATCH, late_upsampling=True, decoder=0.5),
    Proposal(SCRATCH, late_upsampling=True, share=0.8),
)


def suggested(trial: Trial) -> Proposal:
    """Returns what a trial suggests."""
    start = trial.suggest_categorical("start", (SCRATCH, NARROWED))
    late = trial.suggest_categorical("late_upsampling", (False, True))
    share = round(trial.suggest_float("share", *SHARES, step=0.1), 6)
    if start == SCRATCH:
        decoder = trial.suggest_categorical("decoder", DECODERS)
        return Proposal(start, late, share, decoder=decoder)
    return Proposal(start, late, share, multiple=trial.suggest_categorical("multiple", MULTIPLES))
