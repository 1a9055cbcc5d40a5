"""Plans of the arena: exact, small, and such that the file computes the same bytes."""

import subprocess
import sys

import numpy as np
import pytest

from training.export.arena import ALIGNMENT, Block, blocks_of, lower_bound, plan_arena
from training.export.graph import Operator, read_graph
from training.export.offline_plan import offsets_of, with_offsets
from training.export.overlap import distance, distances

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
        interpreter = runtime.Interpreter.from_file(str(path.with_suffix("." + kind)), arena_size=2**22)
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
