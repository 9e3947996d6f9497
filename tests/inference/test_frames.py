"""The frames on the worker's pipe, against every way bytes may arrive or be wrong."""

import itertools
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.inference.frames import (
    MAXIMUM_BYTES,
    VERSION,
    FrameFault,
    FrameReader,
    TypedFrameReader,
    enclose,
    pack,
)
from actors.inference.worker_frames import (
    PROTOCOL,
    Cleared,
    Hello,
    Idle,
    Loading,
    RowFailure,
    SampledToken,
    Step,
    StepOutput,
    pack_frame,
    read_from_worker,
)
from protocol.errors import ErrorCode

_VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.floats(allow_nan=False)
_DATA = st.dictionaries(st.text(max_size=8), _VALUES | st.lists(_VALUES, max_size=4), max_size=4)
_FRAMES = st.lists(st.tuples(st.text(max_size=8), _DATA), max_size=5)


@given(frames=_FRAMES, cuts=st.sets(st.integers(0, 400)))
def test_frames_come_out_as_they_went_in_however_the_bytes_arrive(
    frames: list[tuple[str, dict[str, Any]]], cuts: set[int]
) -> None:
    stream = b"".join(pack(name, data) for name, data in frames)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    reader = FrameReader()
    received = [frame for begin, end in itertools.pairwise(edges) for frame in reader.feed(stream[begin:end])]
    assert received == frames


def test_byte_by_byte_a_frame_comes_with_its_last_byte() -> None:
    frame = pack("step", {"rows": [1, 2, 3], "seconds": 0.5})
    reader = FrameReader()
    for byte in frame[:-1]:
        assert list(reader.feed(bytes([byte]))) == []
    assert list(reader.feed(frame[-1:])) == [("step", {"rows": [1, 2, 3], "seconds": 0.5})]


def test_another_version_is_refused_and_both_are_named() -> None:
    wrong = struct.pack(">IB", 1, VERSION + 1)
    with pytest.raises(FrameFault, match=rf"{VERSION + 1}.*{VERSION}"):
        list(FrameReader().feed(wrong))


def test_a_frame_over_the_bound_is_refused_by_its_header_alone() -> None:
    with pytest.raises(FrameFault, match=str(MAXIMUM_BYTES)):
        list(FrameReader().feed(struct.pack(">IB", MAXIMUM_BYTES + 1, VERSION)))


def test_a_frame_over_the_bound_is_not_sent() -> None:
    with pytest.raises(FrameFault, match="admit"):
        pack("admit", {"prompt_ids": "x" * MAXIMUM_BYTES})


@given(st.binary(max_size=64))
def test_garbage_is_a_frame_fault_or_a_frame_and_nothing_else(garbage: bytes) -> None:
    reader = FrameReader()
    try:
        for name, content in reader.feed(struct.pack(">IB", len(garbage), VERSION) + garbage):
            assert isinstance(name, str)
            assert isinstance(content, dict)
    except FrameFault:
        pass


@pytest.mark.parametrize("body", [["step"], {"step": {}}, ["step", {}, 1], [1, {}], ["step", 3]])
def test_another_shape_is_refused(body: object) -> None:
    encoded = msgspec.msgpack.encode(body)
    with pytest.raises(FrameFault, match="not a frame"):
        list(FrameReader().feed(struct.pack(">IB", len(encoded), VERSION) + encoded))


_TOKEN = SampledToken(7, 3, -0.5, "stop", [(3, -0.5)])


def test_what_a_worker_says_arrives_as_it_was_sent() -> None:
    output = StepOutput(emitted=[_TOKEN], failed=[(8, RowFailure("why", ErrorCode.INVALID_FIELD))], rows=[7, 8])
    said = [
        Hello(PROTOCOL, 1),
        Loading("canary"),
        Step(1, 0.5, output, {"kv": 3.0}),
        Cleared(),
        Idle({"resident": 1.0}),
    ]
    reader = TypedFrameReader(read_from_worker)
    assert list(reader.feed(b"".join(pack_frame(one) for one in said))) == said


@pytest.mark.parametrize(
    "body",
    [
        ["step", 1, 0.5, [[[7, "three", -0.5, None]]], {}],
        ["step", 1, 0.5, [[[7, 3, -0.5, "tired"]]], {}],
        ["step", 1, 0.5, [[], [[7, ["why", "no_such_code"]]]], {}],
        ["idle", [1]],
        ["goodbye"],
        ["admit", 1, [], [], 1, [], {}],
    ],
)
def test_in1_what_a_worker_says_is_checked_against_its_types(body: object) -> None:
    with pytest.raises(FrameFault, match="not a frame"):
        list(TypedFrameReader(read_from_worker).feed(enclose(msgspec.msgpack.encode(body), "bad")))
