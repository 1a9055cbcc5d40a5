"""What the command lines share, and what an installed copy refuses to import."""

import argparse
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from synthetic_run import write_records, write_run

from monitoring.command_line import Parser, numbers, one_line, quiet_start

ROOT = Path(__file__).resolve().parent.parent


def test_an_errors_message_is_one_printable_line():
    name = os.fsdecode(b"caf\xe9.png")
    message = one_line(ValueError(f"no such file:\n  {name}"))
    assert message == r"no such file: caf\udce9.png"
    message.encode()  # any console takes it


def test_numbers_are_separated_by_commas():
    assert numbers("4, 8,16") == (4, 8, 16)
    with pytest.raises(argparse.ArgumentTypeError, match="Received: '4,x'"):
        numbers("4,x")


def test_a_wrong_option_is_one_line(capsys):
    options = Parser(prog="program")
    options.add_argument("--epochs", type=int)
    with pytest.raises(SystemExit) as error:
        options.parse_args(["--epochs", "many"])
    assert error.value.code == 2
    assert capsys.readouterr().err == (
        "program: error: argument --epochs: invalid int value: 'many' (--help lists the options)\n"
    )


def test_what_a_start_prints_is_shown_only_if_it_fails(capfd):
    with quiet_start():
        os.write(2, b"a library's greeting\n")
    assert capfd.readouterr().err == ""
    with pytest.raises(ImportError), quiet_start():
        os.write(2, b"a library's complaint\n")
        raise ImportError
    assert capfd.readouterr().err == "a library's complaint\n"


@pytest.fixture
def installed(tmp_path):
    """A folder with probe_zoo as installed, beside a user's own `training` and `models`."""
    package = tmp_path / "probe_zoo"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("models", "monitoring"):
        (package / name).symlink_to(ROOT / name)
    for name in ("training.py", "models.py", "monitoring.py", "train.py"):
        (tmp_path / name).write_text("raise SystemExit('the user\\'s own module was imported')\n")
    return tmp_path


def run(installed, *arguments) -> subprocess.CompletedProcess:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_installed_copy_reports_compares_and_advises(installed):
    folder = installed / "run"
    folder.mkdir()
    write_run(folder)
    (folder / "advice.json").unlink()
    for arguments in (["report", folder], ["compare", folder, folder], ["advise", folder]):
        result = run(installed, "probe_zoo.monitoring", *arguments)
        assert (result.returncode, result.stderr) == (0, "")
    assert "what these widths save is not known" in result.stdout
    assert (folder / "advice.json").is_file() and (installed / "compare.html").is_file()


def test_a_folder_whose_name_is_not_utf8_works(installed):
    folder = installed / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    write_run(folder)
    for arguments in (["report", folder], ["compare", folder, folder], ["advise", folder]):
        command = [sys.executable, "-m", "probe_zoo.monitoring", *arguments]
        result = subprocess.run(command, cwd=installed, capture_output=True, timeout=60)
        assert (result.returncode, result.stderr) == (0, b"")
        assert rb"caf\udce9" in result.stdout
    assert r"caf\udce9" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["advise", "run", "--cut"],
        ["advise", "run", "--ladder", "0.5"],
        ["advise", "run", "--macs", "9"],
        ["analyze", "m", "--data", "d"],
    ],
    ids=" ".join,
)
def test_what_an_installed_copy_cannot_do_is_one_line(installed, arguments):
    (installed / "run").mkdir()
    write_records(installed / "run", [0])
    result = run(installed, "probe_zoo.monitoring", *arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "checkout of probe-zoo" in result.stderr
    assert result.stderr.startswith(f"python -m probe_zoo.monitoring {arguments[0]}: error: ")


def test_a_live_report_is_served_until_it_is_interrupted(installed):
    (installed / "run").mkdir()
    write_records(installed / "run", [0])
    command = ["-m", "probe_zoo.monitoring", "report", "run", "--live", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=installed,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it runs in the background with interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as server:
        try:
            address = server.stdout.readline().split()[0]
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert b"What to do" in answer.read()
            server.send_signal(signal.SIGINT)
            _, error = server.communicate(timeout=30)
        finally:
            server.kill()
    assert server.returncode == 130
    assert error == "\npython -m probe_zoo.monitoring report: stopped\n"


def test_the_cost_of_a_network_needs_neither_monitoring_nor_training(installed):
    result = run(installed, "probe_zoo.models", "nano_u", "--filters", "4,8,16")
    assert result.returncode == 0, result.stderr
    assert "4,212  (" in result.stdout and "activations at their peak" in result.stdout
    result = run(installed, "probe_zoo.models", "nano_u", "--filters", "4,x")
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("python -m probe_zoo.models: error: argument --filters")
