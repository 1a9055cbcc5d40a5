"""What an INT8 file would take on an Arm Ethos-U NPU, by Arm's compiler Vela (not run there)."""

import csv
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from training.litert import operators
from training.setting_types import Accelerator

ACCELERATORS = get_args(Accelerator)
STRATEGIES = ("Performance", "Size")
KIBI = 1024
ON_THE_NPU = "CUSTOM"  # operator of a compiled file that holds what the NPU runs


@dataclass(frozen=True)
class VelaStrategy:
    """The compiler's estimates for one way of compiling.

    Attributes:
        optimise: What it was compiled for, "Performance" or "Size".
        sram_bytes: Most SRAM in use.
        dram_bytes: Most DRAM in use; 0 on systems without.
        flash_bytes: Flash that holds the weights; 0 where DRAM does.
        cycles: Clock cycles per image, those of operators on the CPU excluded.
        milliseconds: Their duration at the clock of the system.
    """

    optimise: str
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int
    cycles: int
    milliseconds: float


@dataclass(frozen=True)
class CpuOperator:
    """An operator that the NPU cannot run.

    Attributes:
        operator: Its name.
        uses: How often it is left to the CPU.
        reason: What the compiler says; "" if nothing was understood.
    """

    operator: str
    uses: int
    reason: str


@dataclass(frozen=True)
class VelaReport:
    """What Vela estimates for a file.

    Attributes:
        accelerator: The NPU, such as "ethos-u55-128".
        version: Of the compiler.
        system: Clock and memories assumed, by the name of Vela's configuration.
        memory_mode: Which memories hold what, likewise.
        clock_hz: Of the NPU.
        strategies: Compiled for speed, and for memory.
        on_cpu: What is left to the CPU.
    """

    accelerator: str
    version: str
    system: str
    memory_mode: str
    clock_hz: float
    strategies: Sequence[VelaStrategy]
    on_cpu: Sequence[CpuOperator]


def check_vela() -> None:
    """Raises a ValueError if Vela is not installed."""
    if importlib.util.find_spec("ethosu") is None:
        raise ValueError("--vela (export.vela) needs ethos-u-vela: pip install ethos-u-vela")


def vela_report(content: bytes, accelerator: str) -> VelaReport:
    """Compiles a file for an NPU, and returns the compiler's estimates.

    Args:
        content: An INT8 LiteRT file; one without a plan of the arena, which the compiler makes.
        accelerator: One of `ACCELERATORS`.

    Raises:
        ValueError: Vela is not installed, does not know the accelerator, or cannot compile
            the file.

    Reference:
        https://gitlab.arm.com/artificial-intelligence/ethos-u/ethos-u-vela
    """
    check_vela()
    if accelerator not in ACCELERATORS:
        known = ", ".join(ACCELERATORS)
        raise ValueError(f"Unknown accelerator '{accelerator}'. Known: {known}.")
    row: dict[str, str] = {}
    strategies, on_cpu = [], []
    for optimise in STRATEGIES:
        with tempfile.TemporaryDirectory() as folder:
            row, log, compiled = _compiled(content, accelerator, optimise, Path(folder))
        strategies.append(
            VelaStrategy(
                optimise=optimise,
                sram_bytes=_bytes(row, "sram"),
                dram_bytes=_bytes(row, "dram"),
                flash_bytes=_bytes(row, "on_chip_flash") + _bytes(row, "off_chip_flash"),
                cycles=round(float(row["cycles_total"])),
                milliseconds=1000 * float(row["inference_time"]),
            )
        )
        on_cpu = _on_cpu(compiled, log)
    return VelaReport(
        accelerator=accelerator,
        version=_version(),
        system=row["system_config"],
        memory_mode=row["memory_mode"],
        clock_hz=float(row["core_clock"]),
        strategies=strategies,
        on_cpu=on_cpu,
    )


def _bytes(row: Mapping[str, str], memory: str) -> int:
    return round(float(row[f"{memory}_memory_used"]) * KIBI)


def _version() -> str:
    from importlib.metadata import version

    return version("ethos-u-vela")


def _compiled(
    content: bytes, accelerator: str, optimise: str, folder: Path
) -> tuple[dict[str, str], str, bytes]:
    """Returns the row of Vela's summary, what it prints, and the compiled file."""
    source = folder / "model.tflite"
    source.write_bytes(content)
    options = ["--accelerator-config", accelerator, "--optimise", optimise]
    command = [sys.executable, "-m", "ethosu.vela", *options, "--output-dir", str(folder)]
    # A process of its own: it crashes on files that it cannot read.
    result = subprocess.run([*command, str(source)], capture_output=True, text=True)
    summaries = list(folder.glob("model_summary_*.csv"))
    compiled = folder / "model_vela.tflite"
    if result.returncode or not summaries or not compiled.is_file():
        lines = (result.stdout + result.stderr).strip().splitlines()
        reason = lines[-1] if lines else f"exit code {result.returncode}"
        raise ValueError(f"Vela cannot compile the file for {accelerator}: {reason}")
    with summaries[0].open(newline="") as file:
        return next(csv.DictReader(file)), result.stdout, compiled.read_bytes()


def _on_cpu(compiled: bytes, log: str) -> list[CpuOperator]:
    """Returns what is left to the CPU, with the compiler's reasons."""
    warnings = re.findall(r"operator: (\w+),.*\nReason: (.+)", log)
    reasons = {name: reason.strip() for name, reason in reversed(warnings)}
    return [
        CpuOperator(name, uses, reasons.get(name, ""))
        for name, uses in sorted(operators(compiled).items())
        if name != ON_THE_NPU
    ]


def vela_lines(report: VelaReport) -> list[str]:
    """Returns the estimates as text."""
    left = ", ".join(f"{each.operator} {each.uses}" for each in report.on_cpu) or "nothing"
    lines = [
        f"{report.accelerator} by Vela {report.version} ({report.system}, {report.memory_mode}, "
        f"{report.clock_hz / 1e6:.0f} MHz), estimated:"
    ]
    for each in report.strategies:
        lines.append(
            f"  for {each.optimise.lower()}: {each.sram_bytes:,} bytes of SRAM, "
            f"{each.dram_bytes:,} of DRAM, {each.flash_bytes:,} of flash; "
            f"{each.cycles:,} cycles, {each.milliseconds:.2f} ms"
        )
    return [*lines, f"  left to the CPU: {left}"]
