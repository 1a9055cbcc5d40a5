"""Narrowing to the arena of a device."""

import json
from types import SimpleNamespace

import pytest
from conftest import trained_run

from train import main
from training import arena_budget
from training.arena_budget import fitted
from training.config import read_config
from training.export import offline_plan
from training.export.untrained import ArenaSizes

pytest.importorskip("tflite_micro")
SETTINGS = """\
model: {{filters: [6, 8], bottleneck: 8, input_size: [24, 32]}}
data: {{root: {data}}}
training: {{epochs: 1, batch_size: 3, seed: 3}}
"""


@pytest.fixture(scope="module")
def wide(tiny, tmp_path_factory):
    return trained_run(SETTINGS, tiny, tmp_path_factory.mktemp("runs") / "wide")


@pytest.mark.parametrize("plan", [pytest.param("plain", marks=pytest.mark.slow), "overlap"])
def test_the_exported_file_fits(wide, plan, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(offline_plan, "RANDOM_INPUTS", 4)
    options = ["--narrow", str(wide), "--export", "int8", "--export-tolerance", "100"]
    options += ["--arena-plan", plan, "--epochs", "1", "--output", str(tmp_path / "run")]
    limit = {"plain": 16_000, "overlap": 13_000}[plan]
    assert main([*options, "--arena", str(limit)]) == 0
    exported = json.loads((tmp_path / "run" / "export.json").read_text())
    assert exported["arena"]["plan"] == plan
    assert 0.85 * limit < exported["arena_bytes"] <= limit
    cut = json.loads((tmp_path / "run" / "narrowing.json").read_text())
    assert cut["arena"] == {"limit": limit, "after": exported["arena_bytes"]}
    line = f"arena of the INT8 file: {exported['arena_bytes']:,} bytes, at most {limit:,}"
    assert line in capsys.readouterr().out


def test_a_cut_that_does_not_fit_is_cut_further(wide, monkeypatch):
    overrides = {
        "narrow": {"parent": str(wide), "arena": 16_000},
        "export": {"format": "int8"},
    }
    config = read_config(None, overrides)
    budgets = []

    def cut(budget):
        budgets.append(budget["peak_activation_bytes"])
        cost = SimpleNamespace(peak_activation_bytes=budgets[-1])
        return SimpleNamespace(model=len(budgets), cost=cost)

    # A planner that leaves gaps: the second cut fits.
    sizes = {1: ArenaSizes(17_000, 0, 6_000), 2: ArenaSizes(15_900, 0, 6_000)}
    monkeypatch.setattr(arena_budget, "arena_sizes", lambda model: sizes[model])
    assert fitted(config, cut)[1] == {"limit": 16_000, "after": 15_900}
    assert budgets[1] == int(0.98 * 10_000 / 11_000 * budgets[0])
    monkeypatch.setattr(arena_budget, "arena_sizes", lambda model: sizes[1])
    with pytest.raises(ValueError, match="After 4 cuts it needs 17,000 bytes. Received: 16,000"):
        fitted(config, cut)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arena", "16k"], "it needs --export int8"),
        (["--arena", "16k", "--export", "int8", "--macs", "1k"], "Expected a budget of at least"),
        (["--arena", "1k", "--export", "int8"], "which the runtime takes beside the tensors"),
        (["--arena", "1M", "--export", "int8"], "Nothing to narrow: 'nano_u' fits already, with"),
        (["--arena", "small", "--export", "int8"], "expected a whole number, or one such as 40k"),
    ],
)
def test_errors_are_one_line(wide, options, message, tmp_path, capsys):
    assert main(["--narrow", str(wide), "--output", str(tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_it_says_what_it_needs(wide, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("training.export.untrained.PACKAGES", {"no_such_module": "no-such-package"})
    options = ["--narrow", str(wide), "--arena", "16k", "--export", "int8"]
    assert main([*options, "--output", str(tmp_path / "run")]) == 2
    assert "cannot be told: it needs no-such-package: pip install" in capsys.readouterr().err
