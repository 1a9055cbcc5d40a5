"""`monitoring.advise`: advice on a run, written into its folder."""

from collections.abc import Callable
from pathlib import Path

from ..analysis.advice import DEFAULT_RULE
from ..analysis.advice_file import SavedAdvice, write_advice
from ..analysis.ladder import Ladder
from ..analysis.run_advice import Advice, BuildableNetwork, advise_run
from ..records.reading import read_run
from ..records.run_files import ADVICE, REPORT
from .page import write_text
from .run_page import RunPage


def advise(
    run: str | Path,
    *,
    rule: str = DEFAULT_RULE,
    multiple: int = 4,
    parameters: int | None = None,
    macs: int | None = None,
    peak_ram: int | None = None,
    network: BuildableNetwork | None = None,
    ladder: Callable[[], Ladder] | None = None,
) -> Advice:
    """Advises a width for each stage of a run, and writes advice.json and report.html.

    Args:
        run: A folder written by train.py, or by a monitor with a `log_dir`.
        rule: "effective_rank", "participation_ratio" or "variance". Defaults to
            "effective_rank".
        multiple: Widths are rounded up to a multiple of this. Defaults to 4.
        parameters: Budget: most weights. Defaults to None: no limit.
        macs: Budget: most multiply-adds per image. Defaults to None: no limit.
        peak_ram: Budget: most bytes of activations at their peak, in INT8. Defaults to
            None: no limit.
        network: The run's network, which can be built at other widths; a budget needs it,
            and without it the savings are unknown. Defaults to None.
        ladder: Measures what cutting the trained network costs. Defaults to None: it is not
            measured, and what an earlier `advise` has measured is kept.

    Returns:
        The advice; `str` of it is the tables as text.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no records.
        ValueError: An argument is impossible, no network fits the budget, there is a budget
            and no network, or a file of the run is damaged.
        MissingPackageError: A package is not installed; see `write_report`.

    Example:
        >>> advice = advise("runs/first")  # doctest: +SKIP
        >>> advice.widths  # doctest: +SKIP
        {'probe_encoder_1': 4, 'probe_encoder_2': 8, 'probe_bottleneck': 8}
    """
    budget = {"parameters": parameters, "macs": macs, "peak_activation_bytes": peak_ram}
    advice = advise_run(
        read_run(run),
        rule=rule,
        multiple=multiple,
        budget={field: limit for field, limit in budget.items() if limit is not None},
        network=network,
        ladder=ladder,
    )
    page = RunPage(run)
    write_advice(
        page.folder / ADVICE,
        advice.advice,
        rule=rule,
        multiple=multiple,
        ladder=advice.ladder,
        candidates=advice.candidates,
        costs=advice.costs,
        arguments=advice.arguments,
    )
    saved = SavedAdvice(advice.advice, advice.ladder, advice.costs)
    write_text(page.folder / REPORT, page.compose(advice.run, saved))
    return advice
