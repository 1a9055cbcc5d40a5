"""Files of a run from strangers, and damaged ones: understood, or refused in one line."""

import copy
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import synthetic_run
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_run import write_run

from monitoring.__main__ import main
from monitoring.records.files import DamagedFileError
from monitoring.records.reading import read_run
from monitoring.report.comparison_page import compare
from monitoring.report.run_page import write_report

GOOD = {
    "config.yaml": yaml.safe_load(synthetic_run.CONFIG),
    "evaluation.json": synthetic_run.EVALUATION,
    "export.json": synthetic_run.EXPORT,
    "cost.json": synthetic_run.COST,
    "advice.json": synthetic_run.ADVICE,
}
ARRAY = "arrays/probe_encoder_1-00000040.npz"
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "nan", "<b>", "{{ x }}"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(["model", "data", "rows"]), inner)
    ),
    max_leaves=8,
)
MANY = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run, which nothing writes to."""
    return write_run(tmp_path_factory.mktemp("run"))


def text_of(values, name: str) -> bytes:
    if name.endswith(".json"):
        return json.dumps(values).encode()
    return yaml.safe_dump(values, allow_unicode=False).encode("utf-8", "surrogatepass")


def read_everything(whole: Path, name: str, content: bytes) -> None:
    """Reads a run with one file replaced: works, or raises what says which file it is."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        shutil.copytree(whole, folder)
        (folder / name).write_bytes(content)
        readers = (
            lambda: read_run(folder),
            lambda: compare([whole, folder], Path(parent) / "page.html"),
            lambda: write_report(folder),
        )
        for reader in readers:
            try:
                reader()
            except DamagedFileError as error:
                assert name in str(error) and "\n" not in str(error)


def test_the_run_that_is_damaged_here_is_whole(whole, tmp_path):
    run = read_run(whole)
    assert run.notes == () and run.cost["macs"] == 2_399_200
    assert "2,399,200 multiply-adds" in str(compare([whole, whole], None))
    text = write_report(whole, tmp_path / "page.html").read_text()
    for part in ("Scores", "INT8", "Learning", "advised", "-50 %", "all groups cut alike"):
        assert part in text


@pytest.mark.parametrize("name", GOOD)
@MANY
@given(values=VALUES)
def test_any_values_in_the_place_of_a_file(whole, name, values):
    read_everything(whole, name, text_of(values, name))


def paths(values, path=()):
    """Yields the path of every value in nested mappings and lists."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from paths(value, (*path, key))


@pytest.mark.parametrize("name", GOOD)
@MANY
@given(data=st.data())
def test_any_value_in_the_place_of_a_known_one(whole, name, data):
    values = copy.deepcopy(GOOD[name])
    *parents, key = data.draw(st.sampled_from(list(paths(values))))
    inner = values
    for parent in parents:
        inner = inner[parent]
    if data.draw(st.booleans()):
        inner[key] = data.draw(VALUES)
    else:
        del inner[key]
    read_everything(whole, name, text_of(values, name))


@pytest.mark.parametrize("name", [*GOOD, "history.csv", "monitor.jsonl", ARRAY])
@MANY
@given(data=st.data())
def test_any_bytes_in_a_file(whole, name, data):
    content = (whole / name).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 20)))
    new = data.draw(st.binary(max_size=20) | st.text(max_size=20).map(str.encode))
    read_everything(whole, name, content[:start] + new + content[end:])


@MANY
@given(
    cells=st.lists(
        st.lists(
            st.sampled_from(["epoch", "loss", "1", "inf", "nan", "1e308", "-1e308", "5e-324", ""]),
            max_size=4,
        ),
        max_size=5,
    )
)
def test_any_table_in_the_place_of_the_log(whole, cells):
    read_everything(whole, "history.csv", "".join(",".join(c) + "\n" for c in cells).encode())


ARRAYS = st.sampled_from(
    [
        *(np.zeros(shape) for shape in [(), (0,), (8,), (8, 8), (8, 3), (2, 2, 2)]),
        *(np.full((8, 8), value) for value in (np.nan, np.inf, 1e308, -1e308, 0.5)),
        *(np.full(8, value) for value in (np.nan, np.inf, -1e308)),
        *(np.ones(shape, dtype) for shape in [(), (8,), (2, 3)] for dtype in ("int64", "S3")),
        np.array(["text"]),
        np.zeros((8, 8), complex),
    ]
)
NAMES = (
    *("epoch", "step", "global_step", "mean", "correlation", "eigenvalues", "dead", "duplicates"),
)


@MANY
@given(name=st.sampled_from(NAMES), array=ARRAYS)
def test_any_array_in_the_place_of_a_known_one(whole, name, array):
    with np.load(whole / ARRAY) as archive:
        arrays = dict(archive) | {name: array}
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file.name, **arrays)
        read_everything(whole, ARRAY, Path(file.name).read_bytes())


OTHER_LAYERS = synthetic_run.ADVICE["ladder"] | {
    "parent": synthetic_run.ADVICE["ladder"]["parent"] | {"widths": {"another": 3}}
}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("config.yaml", {"a": 1}, "expected a key 'model'. Received: none"),
        ("config.yaml", {"model": 3}, "expected 'model' to be a mapping. Received: 3"),
        ("config.yaml", [1], "expected a mapping. Received: a list"),
        ("evaluation.json", {"a": 1}, "expected a key 'miou'. Received: none"),
        (
            "export.json",
            synthetic_run.EXPORT | {"int8_scores": {}},
            "expected a key 'int8_scores.miou'",
        ),
        (
            "cost.json",
            synthetic_run.COST | {"macs": -1},
            "expected 'macs' to be a whole number, 0 or more. Received: -1",
        ),
        (
            "advice.json",
            {"advice": [1]},
            r"expected 'advice\[0\]' to be a mapping. Received: 1",
        ),
        (
            "advice.json",
            synthetic_run.ADVICE | {"ladder": OTHER_LAYERS},
            "expected all networks of 'ladder' to have the same layers",
        ),
    ],
    ids=str,
)
def test_a_strangers_file_is_one_line_that_names_file_and_key(
    whole, tmp_path, name, values, message, capsys
):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / name).write_bytes(text_of(values, name))
    with pytest.raises(DamagedFileError, match=f"{name}: {message}"):
        write_report(folder)
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and name in error
