"""Compiled products and layers equal MLX's, whatever the number of tokens, the form of the weights and the threads."""

from __future__ import annotations

import importlib
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy
import pytest
from mlx_lm.models.cache import BatchKVCache
from numpy.typing import NDArray

from actors.inference.kernels import gemm as products
from actors.inference.kernels import jit_cache as choice
from actors.inference.kernels import layout as tables
from actors.inference.kernels.attention import POSITIONS
from actors.inference.kernels.intrinsics import COLUMNS
from actors.inference.kernels.thread_pool import ThreadPool
from actors.inference.mlx.load import LoadedModel, load_checkpoint
from tests.inference.golden.phi3_shapes import configuration
from tests.inference.models.small_checkpoints import write_small

pytestmark = pytest.mark.mlx_real_inference

Floats = NDArray[numpy.float32]
TOKENS = (1, 2, 3, 4, 5, 8, 9, COLUMNS, COLUMNS + 1, 2 * COLUMNS + 9, 3 * COLUMNS + 17)
INPUTS, OUTPUTS = 320, 148
"""More than one block of inputs, and outputs that are no whole number of tiles."""


def _at(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _projection(weight: mx.array, bits: int, group: int) -> tuple[NDArray[numpy.int64], Floats, list[Any]]:
    """Fields of a projection, the weights that it stands for, and what it points to."""
    fields = numpy.zeros(tables.PROJECTION_FIELDS, numpy.int64)
    if not bits:
        kept = [numpy.asarray(weight)]
        fields[tables.WEIGHT] = _at(kept[0])
        return fields, kept[0], kept
    packed, scales, biases = mx.quantize(weight, group_size=group, bits=bits)
    kept = [numpy.asarray(one) for one in (packed, scales, biases)]
    fields[:] = (*(_at(one) for one in kept), bits, group)
    return fields, numpy.asarray(mx.dequantize(packed, scales, biases, group_size=group, bits=bits)), kept


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize(("bits", "group"), [(0, 0), (4, 32), (4, 64), (8, 32), (8, 64)])
def test_a_product_equals_numpys(tokens: int, bits: int, group: int) -> None:
    draw = numpy.random.default_rng(tokens)
    weight = mx.array(draw.standard_normal((OUTPUTS, INPUTS)).astype(numpy.float32))
    fields, numbers, kept = _projection(weight, bits, group)
    source = draw.standard_normal((tokens, INPUTS)).astype(numpy.float32)
    found = numpy.full((tokens, OUTPUTS), numpy.nan, numpy.float32)
    tiles = -(-tokens // COLUMNS)
    columns = numpy.empty(tiles * COLUMNS * INPUTS, numpy.float32)
    scratch = numpy.empty(products.BLOCK_BYTES // 4 + products.BLOCK_ROWS * tiles * COLUMNS, numpy.float32)
    progress = numpy.zeros(2 * products.PHASE_BYTES // 8, numpy.int64)
    products.project(
        _at(progress), _at(scratch), _at(source), _at(columns), _at(found), tokens, INPUTS, OUTPUTS, fields
    )
    numpy.testing.assert_allclose(found, source @ numbers.T, rtol=1e-4, atol=2e-4)
    assert kept


def _quantize(folder: Path, bits: int, into: Path) -> Path:
    from actors.inference.mlx.convert import Options, convert

    options = Options(bits=bits, group_size=32, dtype="float32")
    return convert(folder, into, options, lambda _stage, _fraction: None)


@pytest.fixture(scope="module", params=[0, 4, 8], ids=["float32", "4-bit", "8-bit"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, LoadedModel]:
    """The same checkpoint as compiled code computes it, and as MLX does."""
    folder = write_small(tmp_path_factory.mktemp("small") / "source", shape="grouped_heads")
    if request.param:
        folder = _quantize(folder, request.param, folder.parent / "made")
    fast = load_checkpoint(folder, "cpu")
    assert fast.threads is not None
    assert fast.dtype == (f"{request.param}-bit float32" if request.param else "float32")
    return fast, load_checkpoint(folder, "cpu", may_compile=False)


@pytest.mark.parametrize("rows", [1, 2, 5, COLUMNS + 3])
def test_steps_of_a_ragged_batch_equal_mlxs(pair: tuple[LoadedModel, LoadedModel], rows: int) -> None:
    draw = numpy.random.default_rng(rows)
    padding = [int(draw.integers(0, 9)) for _ in range(rows)]
    padding[0] = 0
    caches = [[BatchKVCache(padding) for _ in loaded.model.layers] for loaded in pair]
    for length in (11, 1, 1, COLUMNS + 5, 1, 3):
        ids = mx.array(draw.integers(3, 90, (rows, length)))
        found, expected = (
            numpy.asarray(one.model(ids, cache)) for one, cache in zip(pair, caches, strict=True)
        )  # fmt: skip
        real = (
            [column >= pad for pad in padding for column in range(length)] if length == 11 else [True] * rows * length
        )
        numpy.testing.assert_allclose(
            found.reshape(rows * length, -1)[real], expected.reshape(rows * length, -1)[real], rtol=1e-3, atol=1e-4
        )
    for ours, theirs in zip(*caches, strict=True):
        assert ours._idx == theirs._idx
        assert ours.offset.tolist() == theirs.offset.tolist()
        for row, pad in enumerate(padding):
            numpy.testing.assert_allclose(
                numpy.asarray(ours.keys_and_values()[1][row, :, pad:]),
                numpy.asarray(theirs.keys_and_values()[1][row, :, pad:]),
                rtol=1e-3, atol=1e-4,
            )  # fmt: skip


@pytest.mark.parametrize("shape", ["grouped_heads", "one_key_value_head", "sliding_window"])
def test_more_positions_than_a_block_are_attended_as_mlx_does(tmp_path: Path, shape: str) -> None:
    folder = write_small(tmp_path / "small", shape=shape)
    pair = load_checkpoint(folder, "cpu"), load_checkpoint(folder, "cpu", may_compile=False)
    assert pair[0].threads is not None
    draw = numpy.random.default_rng(7)
    # Of the second row the first block is padding, and some of the next.
    padding = [0, POSITIONS + 9]
    caches = [[BatchKVCache(padding) for _ in loaded.model.layers] for loaded in pair]
    for length in (POSITIONS + 40, 2 * POSITIONS, 7, 1):
        ids = mx.array(draw.integers(3, 90, (2, length)))
        found, expected = (numpy.asarray(one.model(ids, cache)) for one, cache in zip(pair, caches, strict=True))
        real = numpy.ones((2, length), bool)
        if length == POSITIONS + 40:
            real[1, : padding[1]] = False
        numpy.testing.assert_allclose(found[real], expected[real], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("reading", "decoding"), [((1, 7), 1), ((1, 3), 2), ((3, 1), 1), ((2, 13), 5), ((1, 2 * COLUMNS), COLUMNS)]
)
def test_two_parts_in_one_pass_equal_each_by_itself(
    pair: tuple[LoadedModel, LoadedModel], reading: tuple[int, int], decoding: int
) -> None:
    fast, slow = pair
    draw = numpy.random.default_rng(decoding)
    padding = [[0] * reading[0], [int(one) for one in draw.integers(0, 9, decoding)]]
    padding[0][-1] = 2
    ours, theirs = ([[BatchKVCache(pad) for _ in one.model.layers] for pad in padding] for one in pair)
    for cache in (ours, theirs):
        model = (fast if cache is ours else slow).model
        for part, (rows, length) in enumerate(((reading[0], 6), (decoding, 17))):
            model(mx.array(numpy.random.default_rng(part).integers(3, 90, (rows, length))), cache[part])
    for _ in range(2):
        ids = [mx.array(draw.integers(3, 90, shape)) for shape in (reading, (decoding, 1))]
        both = fast.model.states_of_both((ids[0], ours[0]), (ids[1], ours[1]))
        for found, one, cache in zip(both, ids, theirs, strict=True):
            numpy.testing.assert_allclose(
                numpy.asarray(found), numpy.asarray(slow.model.model(one, cache)), rtol=1e-3, atol=1e-3
            )
    for mine, other in zip(ours, theirs, strict=True):
        assert [one._idx for one in mine] == [one._idx for one in other]
        assert [one.offset.tolist() for one in mine] == [one.offset.tolist() for one in other]
    with pytest.raises(ValueError, match="need compiled code"):
        slow.model.states_of_both((ids[0], theirs[0]), (ids[1], theirs[1]))


def test_a_cache_grows_in_steps_and_keeps_what_it_held(pair: tuple[LoadedModel, LoadedModel]) -> None:
    fast, slow = pair
    caches = [[BatchKVCache([0]) for _ in loaded.model.layers] for loaded in pair]
    # The model has 128 positions; a cache has room for 256 at first, so it is told of less.
    for cache in (one for caches_of in caches for one in caches_of):
        cache.step = 16
    for start in range(0, 60, 12):
        ids = mx.array([[3 + (start + place) % 80 for place in range(12)]])
        found, expected = fast.model(ids, caches[0]), slow.model(ids, caches[1])
        numpy.testing.assert_allclose(numpy.asarray(found), numpy.asarray(expected), rtol=1e-3, atol=1e-4)
    assert caches[0][0].keys.shape[2] == 64


def test_any_number_of_threads_gives_the_same_numbers(pair: tuple[LoadedModel, LoadedModel]) -> None:
    fast, _ = pair
    model = fast.model
    ids = mx.array([[5, 9, 33, 60], [7, 8, 9, 10]])
    forward = model.model.compiled
    before = forward._thread_pool
    try:
        answers = []
        for threads in (1, 2, 4):
            thread_pool = ThreadPool(threads)
            forward._thread_pool, forward._scratch = (
                thread_pool,
                [numpy.empty(0, numpy.float32) for _ in range(threads)],
            )
            answers.append(numpy.asarray(model(ids)))
    finally:
        forward._thread_pool, forward._scratch = before, [numpy.empty(0, numpy.float32) for _ in range(before.threads)]
    numpy.testing.assert_array_equal(answers[0], answers[1])
    numpy.testing.assert_array_equal(answers[0], answers[2])


def test_a_helper_that_does_not_come_holds_up_nobody_and_spoils_nothing() -> None:
    release, returned = threading.Event(), threading.Event()
    calls: list[str] = []

    def work(name: str) -> None:
        if name == "helper":
            assert release.wait(30)
        calls.append(name)
        if name == "helper":
            returned.set()

    thread_pool = ThreadPool(2)
    thread_pool.run(work, [("caller",), ("helper",)], ())
    thread_pool.run(work, [("caller again",), ("helper again",)], ())
    assert calls == ["caller", "caller again"], "the helper is still in the first call, and was left out of the second"
    release.set()
    assert returned.wait(30)
    assert calls == ["caller", "caller again", "helper"]


def test_without_a_compiler_mlx_computes_and_health_can_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_small(tmp_path / "small")
    fast = load_checkpoint(folder, "cpu")

    imported = importlib.import_module

    def broken(name: str) -> object:
        if name.startswith(choice.__package__):
            raise ImportError("no module named numba")
        return imported(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    slow = load_checkpoint(folder, "cpu")
    assert (fast.uncompiled, slow.uncompiled) == (None, "ImportError: no module named numba")
    assert slow.threads is None
    ids = mx.array([[4, 5, 6]])
    numpy.testing.assert_allclose(numpy.asarray(slow.model(ids)), numpy.asarray(fast.model(ids)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("said", "expected"), [("1", 1), ("", None), ("many", None), ("100000", None)])
def test_threads_are_as_many_as_processors_or_fewer_where_the_usual_variable_says_so(
    monkeypatch: pytest.MonkeyPatch, said: str, expected: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(choice.os, "sched_getaffinity", lambda _process: {0, 1, 2}, raising=False)
    assert choice._processors() == (3 if expected is None else expected)


def test_machine_code_is_kept_where_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    choice.set_cache_dir(tmp_path)
    folder = tmp_path / "machine-code"
    assert choice.os.environ["NUMBA_CACHE_DIR"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700, "what lies there is run"
    choice.set_cache_dir(tmp_path / "other")
    assert choice.os.environ["NUMBA_CACHE_DIR"] == str(folder), "who has set it keeps it"


def test_code_that_nobody_used_for_a_month_is_removed(tmp_path: Path) -> None:
    own, lately, old, foreign = (tmp_path / name for name in ("a" * 16, "b" * 16, "c" * 16, "somebody_elses"))
    for folder in (own, lately, old, foreign):
        (folder / "layers").mkdir(parents=True)
        (folder / "layers" / "forward.nbc").write_bytes(b"code")
    long_ago = time.time() - 31 * 86_400
    for folder in (own, old, foreign):
        os.utime(folder, (long_ago, long_ago))
    choice.forget_unused(own)
    assert set(tmp_path.iterdir()) == {own, lately, foreign}
    assert own.stat().st_mtime > long_ago + 86_400, "it was used now"
    choice.forget_unused(tmp_path / "nowhere" / "own")


def test_half_precision_and_biases_are_left_to_mlx() -> None:
    from mlx import nn

    from actors.inference.kernels.forward import _can_multiply

    plain = nn.Linear(64, 32, bias=False)
    assert _can_multiply(plain)
    assert not _can_multiply(nn.Linear(64, 32))
    plain.weight = plain.weight.astype(mx.float16)
    assert not _can_multiply(plain)
    assert not _can_multiply(nn.Linear(64, 30, bias=False))
    assert _can_multiply(nn.QuantizedLinear(64, 32, bias=False, group_size=32, bits=4))
    assert not _can_multiply(nn.QuantizedLinear(64, 32, bias=False, group_size=32, bits=3))


def test_a_gate_that_is_no_multiple_of_four_is_left_to_mlx() -> None:
    from actors.inference.checkpoints.phi3_config import Phi3Arguments
    from actors.inference.kernels.forward import can_compile
    from actors.inference.mlx.phi3 import Model

    for width, expected in ((96, True), (98, False)):
        arguments = Phi3Arguments.from_dict({**configuration("plain"), "intermediate_size": width})
        assert can_compile(Model(arguments)) is expected


def test_te32_leaving_early_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    begin = subprocess.Popen
    monkeypatch.setattr(
        choice.subprocess, "Popen", lambda *words, **how: started.append(begin(*words, **how)) or started[0]
    )
    with pytest.raises(KeyboardInterrupt), choice.compiled_beside():
        raise KeyboardInterrupt
    assert started[0].returncode is not None
