"""The INT8 file of a finished run, and what it has shown as text."""

from pathlib import Path

from monitoring.records.files import read_values
from monitoring.records.run_files import CONFIG, MODEL, REPORT, expanded
from monitoring.report.run_page import write_report
from training.config import validate
from training.export.device_file import TOLERANCE, export
from training.export.exported import Exported
from training.export.offline_plan import OVERLAP, PLAIN
from training.export.vela import check_vela, vela_lines
from training.model_files import load_model
from training.parents import parent_outputs
from training.splits import read_config_splits

DATA_RAM = 320 * 1024  # bytes, of an ESP32-S3


def export_run(
    run: str | Path,
    *,
    data: str | Path | None = None,
    tolerance: float = TOLERANCE,
    header: bool = False,
    arena_plan: str = PLAIN,
    vela: str | None = None,
) -> Exported:
    """Exports a finished run of train.py; its report, if it has one, is written again.

    Args:
        run: The run's folder.
        data: A folder of images to use instead of the run's own. Defaults to None.
        tolerance: As for `export`.
        header: As for `export`.
        arena_plan: As for `export`.
        vela: As for `export`.

    Raises:
        FileNotFoundError: The folder does not hold a finished run, or its images do not exist.
        ValueError: Its model or its images cannot be used.
    """
    if vela is not None:
        check_vela()
    folder = expanded(run)
    if not folder.is_dir():
        raise FileNotFoundError(f"Run folder {folder} does not exist.")
    settings = folder / CONFIG
    if not settings.is_file() or not (folder / MODEL).is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished run of train.py: expected {MODEL} and {CONFIG} in it"
        )
    config = validate(read_values(settings), source=str(settings))
    model = load_model(folder / MODEL)
    exported = export(
        model,
        read_config_splits(config, expanded(data) if data else None),
        folder,
        name=config.model.name,
        seed=config.training.seed,
        tolerance=tolerance,
        header=header,
        outputs=parent_outputs(model, config),
        arena_plan=arena_plan,
        vela=vela,
    )
    if (folder / REPORT).is_file():
        write_report(folder)
    return exported


def summary(exported: Exported) -> str:
    """Returns what running a file has shown as text."""
    memory, origin = exported.arena_bytes, "exact"
    if memory is None:
        memory, origin = exported.arena_estimate, "estimated, without alignment and scratch"
    spare = DATA_RAM - memory
    fits = f"yes, {spare:,} bytes to spare" if spare >= 0 else f"no, {-spare:,} bytes too much"
    scores, before = exported.int8_scores, exported.float_scores
    used = ", ".join(f"{name} {times}" for name, times in exported.operators.items())
    lines = [
        f"INT8, {exported.quantization}: {exported.file}, {exported.file_bytes:,} bytes, "
        f"{exported.parameters:,} parameters, {exported.macs:,} multiply-adds",
        f"  test mIoU {scores.miou:.4f}, float {before.miou:.4f}; F1 {scores.f1:.4f}, "
        f"float {before.f1:.4f}; {100 * exported.agreement:.2f} % of pixels agree, "
        f"{100 * exported.within_a_step:.1f} % within one step",
        f"  arena {memory:,} bytes ({origin})",
        f"  fits in 320 KB: {fits}",
        f"  operators: {used}",
    ]
    arena = exported.arena
    if arena.plan == OVERLAP:
        lines.append(f"  overlapping plan, {arena.plain_bytes:,} bytes without: {arena.rests_on}")
    if arena.refused:
        lines.append(f"  NO OVERLAPPING PLAN: {arena.refused}")
    if exported.vela is not None:
        lines += [f"  {line}" for line in vela_lines(exported.vela)]
    if exported.note:
        lines.append(f"  {exported.note}")
    if exported.refused:
        lines.append(f"  REFUSED: {exported.refused}")
    return "\n".join(lines)
