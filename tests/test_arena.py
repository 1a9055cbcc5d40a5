"""Plans of the arena: exact, small, and such that the file computes the same bytes."""

import re
import subprocess
import sys
from functools import partial

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from models import BU_Net, Nano_U
from monitoring.report.arena_section import arena_map, arena_section
from monitoring.report.figures import LEFT, RIGHT, WIDTH
from training.export import offline_plan
from training.export.arena import (
    ALIGNMENT,
    ArenaPlan,
    Block,
    blocks_of,
    lower_bound,
    plan_arena,
)
from training.export.graph import Operator, read_graph
from training.export.offline_plan import (
    offsets_of,
    overlapping,
    plain_use,
    run_on_micro,
    with_offsets,
)
from training.export.overlap import distance, distances
from training.litert import arena_bytes, convert, interpreter_of

RANDOM_FILES = 500


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        # The distances of the overlapping plan, in closed form
        (
            Operator(
                "DEPTHWISE_CONV_2D",
                [(1, 60, 80, 8), (1, 3, 3, 8)],
                (1, 60, 80, 8),
                {"stride": (1, 1), "padding": "SAME"},
            ),
            81 * 8,
        ),
        (
            Operator(
                "CONV_2D",
                [(1, 6, 8, 4), (9, 1, 1, 4)],
                (1, 6, 8, 9),
                {"stride": (1, 1), "padding": "SAME"},
            ),
            47 * 5 + 8,
        ),
        (
            Operator(
                "CONV_2D",
                [(1, 6, 8, 9), (4, 1, 1, 9)],
                (1, 6, 8, 4),
                {"stride": (1, 1), "padding": "SAME"},
            ),
            3,
        ),
        (
            Operator(
                "MAX_POOL_2D",
                [(1, 6, 8, 5)],
                (1, 3, 4, 5),
                {"filter": (2, 2), "stride": (2, 2), "padding": "SAME"},
            ),
            0,
        ),
        (
            Operator(
                "RESIZE_NEAREST_NEIGHBOR",
                [(1, 5, 10, 16)],
                (1, 15, 20, 16),
                {"half_pixel_centers": True},
            ),
            (300 - 50) * 16 + 16,
        ),
    ],
    ids=lambda value: value.name.lower() if isinstance(value, Operator) else "",
)
def test_distances_in_closed_form(operator, expected):
    assert distances(operator) == {0: expected}


def test_a_distance_is_the_least_at_which_nothing_is_lost():
    rng = np.random.default_rng(0)
    for _ in range(200):
        steps, extent = int(rng.integers(1, 12)), int(rng.integers(1, 12))
        reads, writes = rng.integers(0, extent, steps), rng.permutation(steps)

        def is_safe(away, reads=reads, writes=writes):
            """The input begins `away` above the output."""
            return all(w < r + away for t, w in enumerate(writes) for r in reads[t + 1 :])

        least = next(away for away in range(100) if is_safe(away))
        assert distance(reads, writes) == least


def random_blocks(rng, count, *, chain):
    """Draws blocks; each of a chain is there with its neighbours alone."""
    blocks = []
    for number in range(count):
        first = max(number - 1, 0)
        last = min(number, count - 2) if chain else min(first + int(rng.integers(1, 4)), count - 2)
        ends = [block for block in blocks if block.last == first and number]
        below = {block.tensor: int(rng.integers(0, 6)) for block in ends if rng.random() < 0.7}
        blocks.append(Block(number, int(rng.integers(1, 8)), first, max(last, first), below))
    return blocks


def is_valid(blocks, places):
    for block in blocks:
        for other in blocks:
            together = block.first <= other.last and other.first <= block.last
            if block is other or not together:
                continue
            at, there = places[block.tensor], places[other.tensor]
            apart = at + block.size <= there or there + other.size <= at
            shares = other.tensor in block.below and at + block.below[other.tensor] <= there
            shared = block.tensor in other.below and there + other.below[block.tensor] <= at
            if not (apart or shares or shared):
                return False
    return all(place >= 0 for place in places.values())


def least_extent(blocks):
    """Tries every place of every block."""
    top = sum(block.size for block in blocks)

    def fits(size, number, places):
        if number == len(blocks):
            return True
        block = blocks[number]
        for place in range(size - block.size + 1):
            trial = {**places, block.tensor: place}
            if is_valid(blocks[: number + 1], trial) and fits(size, number + 1, trial):
                return True
        return False

    return next(size for size in range(1, top + 1) if fits(size, 0, {}))


def test_the_plan_of_a_chain_is_the_least():
    rng = np.random.default_rng(0)
    for _ in range(60):
        blocks = random_blocks(rng, int(rng.integers(2, 6)), chain=True)
        plan = plan_arena(blocks)
        places = {number: offset // ALIGNMENT for number, offset in plan.offsets.items()}
        assert is_valid(blocks, places) and plan.is_least
        assert plan.size == ALIGNMENT * least_extent(blocks), blocks


def test_the_plan_of_a_graph_is_valid_and_mostly_the_least():
    rng = np.random.default_rng(1)
    least = 0
    for _ in range(40):
        blocks = random_blocks(rng, int(rng.integers(3, 6)), chain=False)
        plan = plan_arena(blocks)
        places = {number: offset // ALIGNMENT for number, offset in plan.offsets.items()}
        assert is_valid(blocks, places)
        expected = least_extent(blocks)
        assert ALIGNMENT * lower_bound(blocks) <= ALIGNMENT * expected <= plan.size
        assert not plan.is_least or plan.size == ALIGNMENT * expected
        least += plan.size == ALIGNMENT * expected
    assert least >= 38


RUN = """
import sys
from pathlib import Path

import numpy as np
from tflite_micro import runtime

for path in sorted(Path(sys.argv[1]).glob("*.npy")):
    outputs = []
    for kind in ("plain", "overlapping"):
        file = str(path.with_suffix("." + kind))
        interpreter = runtime.Interpreter.from_file(file, arena_size=2**22)
        for image in np.load(path):
            interpreter.set_input(image, 0)
            interpreter.invoke()
            outputs.append(interpreter.get_output(0).copy())
    middle = len(outputs) // 2
    same = all(map(np.array_equal, outputs[:middle], outputs[middle:]))
    print(path.stem, same, len({each.tobytes() for each in outputs[:middle]}))
"""


@pytest.mark.parametrize("skips", [False, True], ids=["chains", "skips"])
def test_random_files_compute_the_same_bytes(skips, tmp_path):
    pytest.importorskip("tflite_micro")
    from random_files import draw_file

    saved = []
    for seed in range(RANDOM_FILES):
        rng = np.random.default_rng(seed)
        content, shape = draw_file(seed, skips=skips)
        graph = read_graph(content)
        blocks = blocks_of(graph)
        plan = plan_arena(blocks)
        assert is_valid(blocks, {n: offset // ALIGNMENT for n, offset in plan.offsets.items()})
        saved.append(1 - plan.size / plan_arena(blocks_of(graph, overlap=False)).size)
        planned = with_offsets(content, plan.offsets, graph.count)
        assert offsets_of(planned) == [plan.offsets.get(n, -1) for n in range(graph.count)]
        for kind, each in (("plain", content), ("overlapping", planned)):
            (tmp_path / f"{seed:03}.{kind}").write_bytes(each)
        np.save(tmp_path / f"{seed:03}.npy", rng.integers(-128, 128, (3, *shape)).astype(np.int8))
    run = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-1000:]
    lines = [line.split() for line in run.stdout.splitlines() if line[:3].isdigit()]
    assert len(lines) == RANDOM_FILES
    assert not [seed for seed, same, _ in lines if same != "True"]
    # Most of them are not constant, and most plans save something.
    assert sum(int(different) > 1 for *_, different in lines) > 0.8 * RANDOM_FILES
    assert np.mean(saved) > 0.15


def converted(build, rng):
    """Returns the INT8 file of a small network whose outputs differ from image to image."""
    keras.utils.set_random_seed(0)
    model = build((24, 32, 3), filters=(4, 6), bottleneck=8)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    images = (squares(rng, 8) / 128).astype("float32")
    model(images, training=True)  # statistics become those of the images
    return convert(model, images)


def squares(rng, count):
    """Draws images of large squares, which networks that are not trained tell apart."""
    return np.kron(rng.integers(-128, 128, (count, 3, 4, 3)), np.ones((1, 8, 8, 1))).astype(np.int8)


NETWORKS = {
    "nano_u": Nano_U,
    "bu_net": BU_Net,
    "nano_u, late": partial(Nano_U, late_upsampling=True),
    "bu_net, late": partial(BU_Net, late_upsampling=True),
}


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS)
def network(request):
    rng = np.random.default_rng(0)
    return converted(request.param, rng), squares(rng, 6)


def run_on_litert(content, images):
    interpreter = interpreter_of(content)
    before, after = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for image in images:
        interpreter.set_tensor(before["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(after["index"])[0])
    return np.stack(outputs)


def test_a_network_needs_less_and_computes_the_same(network, monkeypatch):
    pytest.importorskip("tflite_micro")
    monkeypatch.setattr(offline_plan, "RANDOM_INPUTS", 30)
    content, images = network
    outputs = run_on_micro(content, images)
    assert len({each.tobytes() for each in outputs}) == len(images)
    np.testing.assert_array_equal(outputs, run_on_litert(content, images))
    planned, use = overlapping(content, images)
    assert use.plan == "overlap" and not use.refused and "CMSIS-NN" in use.rests_on
    assert use.plain_bytes == arena_bytes(content)
    # Our idea of the runtime's own plan is right: the rest of the arena is the same in both.
    sizes = [max(t[kind] + t["bytes"] for t in use.tensors) for kind in ("plain", "overlap")]
    assert arena_bytes(content) - arena_bytes(planned) == sizes[0] - sizes[1] > 0.2 * sizes[0]
    assert offsets_of(content) is None
    # All that the file says otherwise is the same, and 32-bit numbers can be read where they lie.
    assert read_graph(planned) == read_graph(content)
    model, before = (schema.Model.GetRootAs(each, 0) for each in (planned, content))
    for number in range(before.BuffersLength()):
        buffer, original = model.Buffers(number), before.Buffers(number)
        assert buffer.DataLength() == original.DataLength()
        if buffer.DataLength():
            assert buffer._tab.Vector(buffer._tab.Offset(4)) % 16 == 0
            np.testing.assert_array_equal(buffer.DataAsNumpy(), original.DataAsNumpy())


def test_a_plan_with_which_outputs_change_is_refused(network, monkeypatch):
    pytest.importorskip("tflite_micro")
    monkeypatch.setattr(offline_plan, "RANDOM_INPUTS", 4)
    content, images = network
    on_top = ArenaPlan({tensor.number: 0 for tensor in read_graph(content).tensors}, 16, False)
    monkeypatch.setattr(offline_plan, "plan_arena", lambda _: on_top)
    kept, use = overlapping(content, images)
    assert kept == content and use.plan == "plain" and not use.rests_on
    assert use.refused == "10 of 10 inputs give other outputs with it"
    assert all(tensor["overlap"] is None for tensor in use.tensors)


def test_without_an_interpreter_there_is_no_plan(network, monkeypatch):
    missing = "raise ImportError(\"No module named 'tflite_micro'\")"
    monkeypatch.setattr(offline_plan, "RUN", missing)
    content, images = network
    kept, use = overlapping(content, images)
    assert kept == content and "pip install --pre tflite-micro" in use.refused
    monkeypatch.setattr(offline_plan, "RUN", "raise SystemExit('no room')")
    assert overlapping(content, images)[1].refused.endswith("cannot run the file: no room")


def test_a_report_says_where_memory_peaks_and_draws_what_lies_where(network):
    content, _ = network
    use = plain_use(content)
    exported = {"arena": vars(use), "arena_bytes": use.plain_bytes}
    section = arena_section(exported)
    graph = read_graph(content)
    alive = [
        sum(t.size for t in graph.tensors if t.first <= step <= t.last)
        for step in range(len(graph.operators))
    ]
    step = int(np.argmax(alive))
    assert section.peak.number == step + 1
    assert section.peak.operator == graph.operators[step].name
    assert sum(size for *_, size in section.peak.tensors) == max(alive)
    [(_, drawing)] = section.plans
    assert drawing.count("<rect") == len(graph.tensors) == len(use.tensors)
    rows = [{"name": "<a>", "shape": [1, 8], "bytes": 8, "first": 1, "last": 1, "plain": 4}]
    picture = arena_map(rows, "plain", ["ADD", "ADD"], 16)
    assert "&lt;a&gt;, 1 x 8: 8 bytes from 4, operators 2 to 2" in picture
    x, y, width, height = geometry(picture)
    assert width == pytest.approx((WIDTH - LEFT - RIGHT) / 2, abs=0.1)
    assert x == pytest.approx(LEFT + width, abs=0.1)
    assert height == pytest.approx((260 - 48) / 2, abs=0.1)
    assert y == pytest.approx(260 - 36 - 0.75 * (260 - 48), abs=0.1)
    assert arena_section({}) is None and arena_section({"arena": {"tensors": []}}) is None


def geometry(picture):
    """Returns x, y, width and height of the first block."""
    rect = re.search(r"<rect [^>]*>", picture)[0]
    return [
        float(re.search(rf' {name}="([^"]*)"', rect)[1]) for name in ("x", "y", "width", "height")
    ]
