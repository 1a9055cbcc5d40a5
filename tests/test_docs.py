"""The scripts in docs/ run, and print the tables printed there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = re.findall(
    r"## (.*?)\n.*?```python\n(.*?)```\n\n```text\n(.*?)```",
    (ROOT / "docs" / "any_model.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


def layers_and_widths(text):
    return re.findall(r"^(\S+) +(\d+) channels .* in use .* redundancy", text, re.MULTILINE)


def test_all_examples_are_found():
    assert len(EXAMPLES) == 4
    assert [len(layers_and_widths(table)) for _, _, table in EXAMPLES] == [4, 2, 3, 4]


@pytest.mark.parametrize("script, table", [pytest.param(s, t, id=n) for n, s, t in EXAMPLES])
def test_an_example_prints_its_table(script, table):
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert layers_and_widths(run.stdout) == layers_and_widths(table)
    assert "±" in run.stdout
