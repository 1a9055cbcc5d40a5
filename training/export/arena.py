"""Where each tensor lies in the arena, so that it is as small as can be."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from training.export.graph import Graph, Tensor
from training.export.overlap import distances

ALIGNMENT = 16  # of TensorFlow Lite Micro's arena
TRIALS = 3000  # orders of tensors that are tried where the least size is not known
Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class ArenaPlan:
    """A place for every tensor.

    Attributes:
        offsets: {number of a tensor: its first byte}.
        size: Bytes of all together.
        is_least: Whether no plan can be smaller.
    """

    offsets: Mapping[int, int]
    size: int
    is_least: bool


@dataclass(frozen=True)
class Block:
    """What a tensor asks of a plan, in units of the alignment.

    Attributes:
        tensor: Number of the tensor.
        size: Its size.
        first: Number of the first operator at which it is there.
        last: Number of the last one.
        below: {number of a tensor that ends where this one begins to be: how far below that
            one it must begin to share its memory}.
    """

    tensor: int
    size: int
    first: int
    last: int
    below: Mapping[int, int]


def blocks_of(graph: Graph, *, overlap: bool = True) -> list[Block]:
    """Returns what the tensors of a file ask for.

    Args:
        graph: The file's graph.
        overlap: Whether outputs may share memory with inputs. Defaults to True.
    """
    tensors = {tensor.number: tensor for tensor in graph.tensors}
    blocks = []
    writers = {operator.writes: operator for operator in graph.operators}
    for tensor in graph.tensors:
        below = {}
        operator = writers.get(tensor.number)
        if overlap and operator is not None and tensor.kind == "INT8":
            for place, distance in distances(operator).items():
                read = tensors.get(operator.reads[place])
                if read is not None and _may_be_written_over(read, tensor, operator.reads):
                    below[read.number] = _units(distance)
        size = _units(tensor.size)
        blocks.append(Block(tensor.number, size, tensor.first, tensor.last, below))
    return blocks


def _may_be_written_over(read: Tensor, written: Tensor, reads: Sequence[int]) -> bool:
    """Returns whether nothing needs an operator's input any more once it has been read."""
    once = list(reads).count(read.number) == 1
    return once and read.kind == "INT8" and read.last == written.first


def _units(size: int) -> int:
    return -(-size // ALIGNMENT)


def plan_arena(blocks: Sequence[Block], *, seed: int = 0) -> ArenaPlan:
    """Places blocks; exactly for a chain, else by search.

    Args:
        blocks: What the tensors ask for.
        seed: Of the search. Defaults to 0.
    """
    least = lower_bound(blocks)
    chain = _chain(blocks)
    if chain is not None:
        places = _placed_chain(chain, least)
        is_least = True
    else:
        places = _searched(blocks, least, random.Random(seed))
        is_least = _extent(blocks, places) == least
    offsets = {number: place * ALIGNMENT for number, place in places.items()}
    return ArenaPlan(offsets, _extent(blocks, places) * ALIGNMENT, is_least)


def greedy_plan(blocks: Sequence[Block]) -> ArenaPlan:
    """Places blocks as TensorFlow Lite Micro does where a file says nothing: large ones first."""
    order = sorted(blocks, key=lambda block: (-block.size, -block.tensor))
    places = _first_fit(order)
    size = _extent(blocks, places)
    offsets = {number: place * ALIGNMENT for number, place in places.items()}
    return ArenaPlan(offsets, size * ALIGNMENT, size == lower_bound(blocks))


def lower_bound(blocks: Sequence[Block]) -> int:
    """Returns a size, in units, that no plan is below: what the most crowded operator needs."""
    steps = range(max(block.last for block in blocks) + 1)
    return max(_needed([b for b in blocks if b.first <= step <= b.last], step) for step in steps)


def _needed(alive: Sequence[Block], step: int) -> int:
    """Returns the least memory that an operator's tensors cover."""
    sizes = {block.tensor: block.size for block in alive}
    shared = 0
    for block in alive:
        if block.first == step:
            # Inputs do not overlap each other, so those that begin at a distance or further up
            # share no more with the output than there is of it from there on.
            with_output = 0
            below = [(d, sizes[number]) for number, d in block.below.items() if number in sizes]
            for distance, size in sorted(below, reverse=True):
                with_output = max(min(with_output + size, block.size - distance), with_output)
            shared += with_output
    return sum(sizes.values()) - shared


def _extent(blocks: Sequence[Block], places: Mapping[int, int]) -> int:
    return max(places[block.tensor] + block.size for block in blocks)


def _chain(blocks: Sequence[Block]) -> list[Block] | None:
    """Returns blocks of which each is there with the one before and the one after alone."""
    ordered = sorted(blocks, key=lambda block: (block.first, block.last))
    for before, after in pairwise(ordered):
        if before.last != after.first:
            return None
    alive = [sum(b.first <= step <= b.last for b in blocks) for step in range(ordered[-1].last + 1)]
    return ordered if max(alive) <= 2 else None


def _placed_chain(chain: Sequence[Block], least: int) -> dict[int, int]:
    """Returns the places of a chain's blocks with the least extent."""
    low, high = least, max(a.size + b.size for a, b in pairwise([*chain, chain[-1]]))
    while low < high:
        middle = (low + high) // 2
        if _feasible(chain, middle) is None:
            low = middle + 1
        else:
            high = middle
    ranges = _feasible(chain, low)
    assert ranges is not None, "two neighbours always fit side by side"
    return _backwards(chain, ranges)


def _feasible(chain: Sequence[Block], size: int) -> list[Ranges] | None:
    """Returns where each block can begin in a given size, from the first to the last."""
    ranges: list[Ranges] = [[(0, size - chain[0].size)]]
    for before, block in pairwise(chain):
        lowest, highest = ranges[-1][0][0], ranges[-1][-1][1]
        top = size - block.size
        distance = min(block.below.get(before.tensor, block.size), block.size)
        parts = [(0, min(highest - distance, top)), (lowest + before.size, top)]
        ranges.append([part for part in parts if part[0] <= part[1]])
        if not ranges[-1]:
            return None
    return ranges if ranges[0][0][1] >= 0 else None


def _backwards(chain: Sequence[Block], ranges: Sequence[Ranges]) -> dict[int, int]:
    """Returns a place of each block, from the last, at its lowest, to the first."""
    place = ranges[-1][0][0]
    places = {chain[-1].tensor: place}
    for number in range(len(chain) - 2, -1, -1):
        before, block = chain[number], chain[number + 1]
        distance = min(block.below.get(before.tensor, block.size), block.size)
        lowest, highest = ranges[number][0][0], ranges[number][-1][1]
        place = highest if highest - distance >= place else lowest
        places[before.tensor] = place
    return places


def _searched(blocks: Sequence[Block], least: int, rng: random.Random) -> dict[int, int]:
    """Returns places found by first fit, of the best of many orders."""
    orders = [
        sorted(blocks, key=lambda b: -b.size),
        sorted(blocks, key=lambda b: (b.first, -b.size)),
        sorted(blocks, key=lambda b: (-b.last, -b.size)),
        sorted(blocks, key=lambda b: -b.size * (b.last - b.first + 1)),
    ]
    order = min(orders, key=lambda each: _extent(blocks, _first_fit(each)))
    places = _first_fit(order)
    extent = _extent(blocks, places)
    for _ in range(TRIALS):
        if extent == least:
            break
        trial = list(order)
        # Blocks at the top are placed earlier.
        top = [i for i, b in enumerate(trial) if places[b.tensor] + b.size == extent and i]
        index = rng.choice(top) if top and rng.random() < 0.5 else rng.randrange(len(trial))
        trial.insert(rng.randrange(index + 1), trial.pop(index))
        other = _first_fit(trial)
        if _extent(blocks, other) <= extent:
            extent, order, places = _extent(blocks, other), trial, other
    return places


def _first_fit(order: Sequence[Block]) -> dict[int, int]:
    """Returns places: each block as low as those before it in the order allow."""
    places: dict[int, int] = {}
    for number, block in enumerate(order):
        taken = [
            _taken(block, other, places[other.tensor])
            for other in order[:number]
            if other.first <= block.last and block.first <= other.last
        ]
        places[block.tensor] = _lowest(taken)
    return places


def _taken(block: Block, other: Block, place: int) -> tuple[int, int]:
    """Returns between which places, both excluded, a block must not begin, beside another one."""
    low = min(block.below.get(other.tensor, block.size), block.size)
    high = min(other.below.get(block.tensor, other.size), other.size)
    return place - low, place + high


def _lowest(taken: Sequence[tuple[int, int]]) -> int:
    """Returns the lowest place from 0 on that lies strictly inside none of the ranges."""
    place = 0
    for low, high in sorted(taken):
        if low < place < high:
            place = high
    return place
