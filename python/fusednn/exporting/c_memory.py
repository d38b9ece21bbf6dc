# SPDX-License-Identifier: Apache-2.0
"""Which values of a program lie where: in arrays of the caller, or in memory that is reused."""

from __future__ import annotations

from typing import NamedTuple

from fusednn.exporting.program import Program

# Each value of the output depends on the values at the same place of the inputs, or is written
# after its row was read, so the output may take the input's place.
_IN_PLACE = frozenset(
    {"activation", "add", "batch_normalization", "layer_normalization", "rescaling", "softmax"}
)


class Place(NamedTuple):
    """Where the values of a step lie.

    Attributes
    ----------
    array : str
        "input", "output" or "memory".
    number : int
        Of the input or output; in memory the place of the first value.
    """

    array: str
    number: int


class Layout(NamedTuple):
    """The places of all steps, and how many values the working memory holds."""

    places: list[Place]
    size: int


class _Room(NamedTuple):
    """Values that share a place: how many, and from which step to which they are needed."""

    size: int
    first: int
    last: int


def lay_out(program: Program) -> Layout:
    """Return places such that nothing is overwritten that is still needed."""
    steps = program.steps
    readers: list[list[int]] = [[] for _ in steps]
    for reader, step in enumerate(steps):
        for place in step.inputs:
            readers[place].append(reader)
    outputs = {place: number for number, (_, place) in reversed(list(enumerate(program.outputs)))}
    # The step whose room each step uses: its own, or that of an input nobody else needs.
    host = list(range(len(steps)))
    for place, step in enumerate(steps):
        if step.kind in _IN_PLACE:
            free = (
                before
                for before in step.inputs
                if readers[before] == [place]
                and before not in outputs
                and steps[before].kind != "input"
            )
            host[place] = host[next(free, place)]
    ends = {host[place]: number for place, number in outputs.items()}
    inputs = {place: number for number, place in enumerate(program.inputs)}
    rooms: dict[int, _Room] = {}
    for place, step in enumerate(steps):
        owner = host[place]
        if owner not in inputs and owner not in ends:
            last = max(readers[place], default=place)
            first = rooms[owner].first if owner in rooms else place
            rooms[owner] = _Room(step.size, first, last)
    offsets, size = _pack(rooms)
    places = []
    for owner in host:
        if owner in inputs:
            places.append(Place("input", inputs[owner]))
        elif owner in ends:
            places.append(Place("output", ends[owner]))
        else:
            places.append(Place("memory", offsets[owner]))
    return Layout(places, size)


def _pack(rooms: dict[int, _Room]) -> tuple[dict[int, int], int]:
    """Return an offset for every room, the largest first, each in the lowest gap where it fits."""
    offsets: dict[int, int] = {}
    for owner, room in sorted(rooms.items(), key=lambda item: -item[1].size):
        others = sorted(
            (offset, offset + rooms[other].size)
            for other, offset in offsets.items()
            if rooms[other].first <= room.last and room.first <= rooms[other].last
        )
        offset = 0
        for begin, end in others:
            if offset + room.size <= begin:
                break
            offset = max(offset, end)
        offsets[owner] = offset
    size = max((offset + rooms[owner].size for owner, offset in offsets.items()), default=0)
    return offsets, size
