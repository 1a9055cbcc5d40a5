"""Estimates for Arm's NPUs beside what the compiler itself prints."""

import re
import subprocess
import sys

import numpy as np
import pytest

from models import Nano_U
from monitoring.report.run_page import write_report
from train import main as train_main
from train import train
from training.export import vela
from training.export.__main__ import main
from training.export.vela import vela_lines, vela_report
from training.litert import convert

pytest.importorskip("ethosu")


@pytest.fixture(scope="module")
def content():
    images = np.random.default_rng(0).uniform(-1, 1, (4, 60, 80, 3)).astype("float32")
    return convert(Nano_U(), images)


def test_the_compilers_own_page_says_the_same(content, tmp_path):
    report = vela_report(content, "ethos-u55-128")
    (tmp_path / "net.tflite").write_bytes(content)
    for strategy in report.strategies:
        command = ["--accelerator-config", "ethos-u55-128", "--optimise", strategy.optimise]
        printed = subprocess.run(
            [sys.executable, "-m", "ethosu.vela", *command, "net.tflite"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        used = float(re.search(r"Total SRAM used\s+([\d.]+) KiB", printed)[1])
        assert strategy.sram_bytes == pytest.approx(1024 * used, abs=6)
        flash = float(re.search(r"Total Off-chip Flash used\s+([\d.]+) KiB", printed)[1])
        assert strategy.flash_bytes == pytest.approx(1024 * flash, abs=6)
        assert strategy.dram_bytes == 0
        assert f"CPU operators = {sum(o.uses for o in report.on_cpu)} " in printed
        assert strategy.milliseconds == pytest.approx(1000 * strategy.cycles / report.clock_hz)
    assert [s.optimise for s in report.strategies] == ["Performance", "Size"]
    assert report.strategies[0].sram_bytes > report.strategies[1].sram_bytes
    assert report.strategies[0].cycles < report.strategies[1].cycles
    # 60x80 becomes 20x40 on the way down: pooling by 3 x 2 comes back by an uneven resize.
    assert [(o.operator, o.uses) for o in report.on_cpu] == [("RESIZE_NEAREST_NEIGHBOR", 1)]
    assert "scale-factor" in report.on_cpu[0].reason
    assert "left to the CPU: RESIZE_NEAREST_NEIGHBOR 1" in vela_lines(report)[-1]


def test_another_npu_runs_everything(content):
    report = vela_report(content, "ethos-u85-256")
    assert not report.on_cpu
    assert vela_lines(report)[-1].endswith("nothing")


def test_what_cannot_be_compiled_or_is_not_there(content, monkeypatch, capsys):
    with pytest.raises(ValueError, match="Unknown accelerator 'u55'. Known: ethos-u55-32, "):
        vela_report(content, "u55")
    with pytest.raises(ValueError, match="Vela cannot compile the file for ethos-u55-128: .+"):
        vela_report(content[:100], "ethos-u55-128")
    monkeypatch.setattr(vela.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs ethos-u-vela: pip install ethos-u-vela"):
        vela_report(content, "ethos-u55-128")
    assert main(["nowhere", "--vela", "ethos-u55-128"]) == 2
    assert "needs ethos-u-vela" in capsys.readouterr().err


def test_an_unknown_npu_is_refused_before_training(capsys):
    assert train_main(["--model", "nano_u", "--export", "int8", "--vela", "u55"]) == 2
    error = capsys.readouterr().err
    assert "export.vela" in error and "'ethos-u55-32'" in error and error.count("\n") == 1
    assert train_main(["--model", "nano_u", "--vela", "ethos-u55-128"]) == 2
    assert "--vela need --export int8" in capsys.readouterr().err


def test_a_run_shows_it(tmp_path, capsys):
    config = tmp_path / "small.yaml"
    config.write_text(
        "model: {filters: [4, 8], bottleneck: 8, probes: [encoder]}\n"
        "nas: {enabled: true}\nexport: {vela: ethos-u55-64}\n"
    )
    folder = tmp_path / "run"
    train("nano_u", 1, config=config, output=folder, export_format="int8", verbose=1)
    printed = capsys.readouterr().out
    assert "ethos-u55-64 by Vela 5." in printed and "for size: " in printed
    page = write_report(folder).read_text()
    assert "ethos-u55-64, as Arm&#39;s compiler Vela" in page or "ethos-u55-64, as Arm's" in page
    sram = re.search(r"for size: ([\d,]+) bytes", printed)[1]
    assert f"<td>size</td><td>{sram}</td>" in page
    # Exported anew, the report is, too.
    assert main([str(folder), "--vela", "ethos-u55-32", "--export-tolerance", "100"]) == 0
    assert "ethos-u55-32, as Arm" in (folder / "report.html").read_text()


def test_a_tolerance_is_not_negative(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--export-tolerance", "-1"])
    assert "expected a number of at least 0. Received: '-1'" in capsys.readouterr().err
