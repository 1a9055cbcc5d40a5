"""Configurations and records that nobody would write: read rightly, or refused in a line."""

import functools
import json
import os

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.records.reading import read_run
from monitoring.statistics.covariance import CovarianceState, measure_batch, merge, to_host
from training.config import Config, read_config

EXAMPLES = int(os.environ.get("PROBE_ZOO_EXAMPLES", "150"))
LAX = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
SECTIONS = st.sampled_from(sorted(Config.model_fields))
KEYS = st.sampled_from(
    sorted({key for one in Config.model_fields.values() for key in one.annotation.model_fields})
)


@LAX
@given(st.dictionaries(SECTIONS, st.dictionaries(KEYS, TREES, max_size=3) | TREES, max_size=3))
def test_a_configuration_is_read_or_refused_in_a_line(tmp_path, values):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    try:
        config = read_config(path)
    except ValueError as error:
        assert "config.yaml" in str(error) or "configuration" in str(error)
        return
    again = tmp_path / "again.yaml"
    again.write_text(config.to_yaml(), encoding="utf-8")
    assert read_config(again) == config


@LAX
@given(st.binary(max_size=60))
def test_bytes_as_a_configuration_are_refused_in_a_line(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    try:
        read_config(path)
    except ValueError as error:
        assert "config.yaml" in str(error)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    from monitoring.records.record import COLUMNS

    row = dict.fromkeys(COLUMNS, 0.5) | {"probe": "probe_a", "source": "images", "verdict": "ok"}
    return [json.dumps(row | {"epoch": n, "step": n, "channels": 4}) + "\n" for n in range(4)]


@LAX
@given(place=st.floats(0, 1), junk=st.binary(max_size=12), length=st.floats(0.3, 1))
def test_damaged_records_are_read_without_the_damage_or_refused(
    lines, tmp_path, place, junk, length
):
    content = bytearray("".join(lines).encode())
    start = int(place * len(content))
    content[start : start + len(junk)] = junk
    path = tmp_path / "monitor.jsonl"
    path.write_bytes(bytes(content[: int(length * len(content))]))
    try:
        run = read_run(tmp_path)
    except (ValueError, FileNotFoundError) as error:
        assert "monitor.jsonl" in str(error) and "\n" not in str(error)
        return
    assert 1 <= sum(map(len, run.records.values())) <= len(lines)


@LAX
@given(
    channels=st.integers(1, 6),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    offset=st.sampled_from([0.0, 1.0, -300.0]),
    seed=st.integers(0, 2**31),
)
def test_any_split_has_the_covariance_of_the_whole(channels, sizes, offset, seed):
    draw = np.random.default_rng(seed)
    samples = (draw.normal(size=(sum(sizes), channels)) + offset).astype("float32")
    parts = np.split(samples, np.cumsum(sizes)[:-1])
    states = [to_host(measure_batch(part)) for part in parts]
    joined = functools.reduce(merge, states, CovarianceState.empty(channels))
    exact = samples.astype(float) - samples.astype(float).mean(axis=0)
    expected = exact.T @ exact
    assert joined.count == len(samples)
    scale = max(np.abs(expected).max(), 1e-6)
    np.testing.assert_allclose(joined.scatter / scale, expected / scale, atol=2e-5)
