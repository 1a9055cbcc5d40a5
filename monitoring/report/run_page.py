"""A run's page: what its channels do, and what to do about it, in one HTML file."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..analysis.advice import Cost, WidthAdvice
from ..analysis.advice_file import SavedAdvice, read_advice
from ..analysis.ladder import Ladder
from ..analysis.run_advice import default_advice
from ..analysis.tables import short
from ..records.reading import RunFolder, RunReader, file_version
from ..records.record import ProbeRecord, ProbeSnapshot
from ..records.run_files import (
    ADVICE,
    ARRAYS,
    CONFUSION_PICTURE,
    MONITOR_JSONL,
    PREDICTIONS,
    REPORT,
    TEACHER,
)
from ..records.snapshots import read_snapshot, snapshot_files
from .arena_section import arena_section
from .cut_section import cut_section
from .figures import Figure, spectrum
from .heat_map import heat_map
from .ladder_section import ladder_section
from .page import environment, stages_beside, write_text
from .sections import (
    class_scores,
    cost_rows,
    lead,
    learning,
    monitoring_time,
    network_scores,
    one_class_warning,
    overview,
    picture,
    score_curves,
)


def write_report(run: str | Path, path: str | Path | None = None) -> Path:
    """Writes a run's report: one HTML file that needs no other file and no network.

    It shows the advice in the folder's advice.json or, where there is none, advice by the
    default rule. Neither Keras nor the run's network is needed.

    Args:
        run: A folder written by train.py, or by a monitor with a `log_dir`.
        path: The file. Defaults to None: report.html in the run's folder.

    Returns:
        The file.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no records.
        ValueError: A file of the run is damaged; the message names it.
        MissingPackageError: Jinja2 is not installed; or PyYAML or Pillow, where the run
            holds files that need them.

    Example:
        >>> write_report("runs/first")  # doctest: +SKIP
        PosixPath('runs/first/report.html')
    """
    page = RunPage(run)
    target = Path(path) if path is not None else page.folder / REPORT
    write_text(target, page.render())
    return target


class RunPage:
    """The page of a run that may still be going on.

    Rendering again reads only the files that have changed and, in monitor.jsonl, only what was
    appended. It draws only new arrays; if nothing has changed, it returns the same page.

    Args:
        folder: The run's folder.
        refresh: Seconds after which a browser loads the page again; 0: never. Defaults to 0.
    """

    def __init__(self, folder: str | Path, refresh: int = 0):
        self.folder, self._refresh = Path(folder), refresh
        self._run, self._teacher = RunReader(folder), RunReader(Path(folder) / TEACHER)
        self._versions: tuple[Any, ...] | None = None
        self._text = ""

    def render(self) -> str:
        """Returns the page's text as the files are now; errors as those of `write_report`."""
        versions = self._file_versions()
        if versions != self._versions:
            run, saved = self._run.read(), None
            if (self.folder / ADVICE).is_file():
                saved = self._run.cache.read(self.folder / ADVICE, read_advice)
            # If a file has changed meanwhile, the next call sees another version.
            self._text = self.compose(run, saved or SavedAdvice(default_advice(run), None, None))
            self._versions = versions
        return self._text

    def compose(self, run: RunFolder, saved: SavedAdvice) -> str:
        """Returns the page of a run that has been read already, with advice on it."""
        cache = self._run.cache
        drawn = {
            probe: cache.read(paths[-1], _draw_snapshot, slot=probe)
            for probe, paths in snapshot_files(self.folder).items()
        }
        pictures = {
            name: cache.read(self.folder / name, picture)
            for name in (PREDICTIONS, CONFUSION_PICTURE)
            if (self.folder / name).is_file()
        }
        has_teacher = (self.folder / TEACHER / MONITOR_JSONL).is_file()
        return render(
            run,
            {probe: snapshot for probe, (snapshot, _) in drawn.items()},
            saved.advice,
            costs=saved.costs,
            ladder=saved.ladder,
            teacher=self._teacher.read().last if has_teacher else None,
            pictures=pictures,
            refresh=self._refresh,
            draw=lambda snapshot: drawn[snapshot.probe][1],
        )

    def _file_versions(self) -> tuple[Any, ...]:
        """Returns values that change when a file of the page changes."""
        versions: list[tuple[Any, ...]] = []
        for folder in (self.folder, self.folder / ARRAYS, self.folder / TEACHER):
            for path in sorted(folder.glob("[!.]*")):
                with suppress(FileNotFoundError):  # removed in between
                    versions.append((path, file_version(path)))
        return tuple(versions)


def render(
    run: RunFolder,
    snapshots: Mapping[str, ProbeSnapshot],
    advice: Sequence[WidthAdvice],
    *,
    costs: tuple[Cost, Cost] | None = None,
    ladder: Ladder | None = None,
    teacher: Mapping[str, ProbeRecord] | None = None,
    pictures: Mapping[str, str] | None = None,
    refresh: int = 0,
    draw: Callable[[ProbeSnapshot], Figure] | None = None,
) -> str:
    """Returns a page's text.

    Args:
        run: As `read_run` returns it.
        snapshots: {probe: its last snapshot}.
        advice: A width for each probe.
        costs: Cost of the network as it is, and at the advised widths. Defaults to None:
            unknown.
        ladder: What cutting the network costs. Defaults to None: not measured.
        teacher: {probe: last record} of the network's teacher. Defaults to None: no teacher.
        pictures: {file: what it shows, as a data URI} of the predictions and of the confusion
            matrix. Defaults to None: none.
        refresh: Seconds after which a browser loads the page again; 0: never. Defaults to 0.
        draw: Returns a snapshot's heat map. Defaults to None: it is drawn.
    """
    draw, pictures = draw or draw_correlation, pictures or {}
    text: str = (
        environment()
        .get_template("run.html")
        .render(
            name=run.name,
            run=run,
            probes=[
                _probe(name, records[-1], snapshots.get(name), draw)
                for name, records in run.records.items()
            ],
            advice=advice,
            cut=cut_section(run.narrowing),
            lead=lead(advice, costs, ladder),
            costs=cost_rows(costs),
            ladder=ladder_section(ladder, run.last),
            refresh=refresh,
            overview=overview(run.records),
            learning=learning(run.history),
            teacher=stages_beside({"student": run.last, "teacher": teacher}) if teacher else {},
            scores=score_curves(run.evaluation, run.exported),
            scored=network_scores(run.evaluation, run.exported),
            arena=arena_section(run.exported),
            by_class=class_scores(run.evaluation, run.exported),
            warning=one_class_warning(run.evaluation),
            predictions=pictures.get(PREDICTIONS, ""),
            confusion=pictures.get(CONFUSION_PICTURE, ""),
            monitoring=monitoring_time(run.evaluation),
        )
    )
    return text


def draw_correlation(snapshot: ProbeSnapshot) -> Figure:
    """Returns the heat map of a snapshot's correlation."""
    title = f"Correlation of {short(snapshot.probe)}'s channels"
    return heat_map(snapshot.correlation, title=title)


def _draw_snapshot(path: Path) -> tuple[ProbeSnapshot, Figure]:
    snapshot = read_snapshot(path)
    return snapshot, draw_correlation(snapshot)


def _probe(
    name: str,
    last: ProbeRecord,
    snapshot: ProbeSnapshot | None,
    draw: Callable[[ProbeSnapshot], Figure],
) -> dict[str, Any]:
    """Returns what the template shows of one probe."""
    if snapshot is None:
        return {"name": name, "last": last, "snapshot": None}
    return {
        "name": name,
        "last": last,
        "snapshot": snapshot,
        "spectrum": spectrum(
            snapshot.eigenvalues,
            last.effective_rank,
            title=f"Eigenvalues of the correlation of {short(name)}'s channels",
        ),
        "map": draw(snapshot),
        "duplicates": [
            (channel, first, "same" if sign > 0 else "mirrored")
            for channel, (first, sign) in snapshot.duplicates.items()
        ],
    }
