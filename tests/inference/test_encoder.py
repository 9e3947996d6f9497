"""The encoder's worker, without a process: the reference's vectors, the proof of its weights, and how its answers are written."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import load_file, save_file

from actors.inference.checkpoints.encoder import ENCODER_FILES, EncoderFile, encoder_folder
from actors.inference.checkpoints.errors import ModelFileCorrupt, ModelFileMissing, ModelFileTruncated
from actors.inference.encoder.limits import CONTEXT_TOKENS, DIMENSIONS, STEP_TOKENS
from actors.inference.encoder.worker import plain
from actors.inference.encoder.worker.answers import as_json, shortened
from actors.inference.encoder.worker.canary import CanaryFault
from actors.inference.encoder.worker.load import EncoderFault, LoadedEncoder, load_encoder, steps
from actors.inference.encoder.worker.tokens import TooLong, UnknownId
from tests.encoder_fixture import GOLDENS, encoder_cache

__all__ = ["encoder_cache"]

pytestmark = pytest.mark.mlx_real_inference


@pytest.fixture(scope="module")
def folder(encoder_cache: Path) -> Path:
    return encoder_folder(encoder_cache)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedEncoder:
    return load_encoder(folder)


def test_em_vectors_are_those_of_the_reference(loaded: LoadedEncoder) -> None:
    texts = [one.text for one in GOLDENS]
    vectors = loaded.embed(loaded.tokens.read(texts, truncates=True))
    cosines = (vectors * numpy.stack([one.vector for one in GOLDENS])).sum(axis=1)
    assert cosines.min() >= 0.9999, dict(zip(texts, cosines, strict=True))
    assert numpy.abs(numpy.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


def test_em_a_text_has_the_same_vector_alone_and_in_any_batch(loaded: LoadedEncoder) -> None:
    texts = [one.text for one in GOLDENS]
    together = loaded.embed(loaded.tokens.read(texts * 2, truncates=True))
    for index, text in enumerate(texts):
        (alone,) = loaded.embed(loaded.tokens.read([text], truncates=True))
        for place in range(index, len(together), len(texts)):
            assert float(alone @ together[place]) > 0.99999


def test_em_tokens_are_counted_as_the_reference_does_and_cut_only_when_asked(loaded: LoadedEncoder) -> None:
    for one in GOLDENS:
        if one.tokens <= CONTEXT_TOKENS:
            (ids,) = loaded.tokens.read([one.text], truncates=False)
            assert len(ids) == one.tokens
        else:
            with pytest.raises(TooLong) as refused:
                loaded.tokens.read(["short", one.text], truncates=False)
            assert (refused.value.index, refused.value.tokens) == (1, one.tokens)
            (ids,) = loaded.tokens.read([one.text], truncates=True)
            assert len(ids) == CONTEXT_TOKENS
    assert any(one.tokens > CONTEXT_TOKENS for one in GOLDENS)


def test_em_token_ids_are_the_encoders_own_with_or_without_their_frame(loaded: LoadedEncoder) -> None:
    (framed,) = loaded.tokens.read(["A man is eating food."], truncates=False)
    assert loaded.tokens.read([framed, framed[1:-1], "A man is eating food."], truncates=False) == [framed] * 3
    with pytest.raises(UnknownId) as refused:
        loaded.tokens.read([[5, 6], [7, 30522]], truncates=False)
    assert (refused.value.index, refused.value.token_id) == (1, 30522)


@pytest.mark.parametrize("name", [one.name for one in ENCODER_FILES])
def test_em_a_file_that_is_not_the_known_one_is_never_loaded(folder: Path, tmp_path: Path, name: str) -> None:
    changed = copied(folder, tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (changed / name).unlink()
    with pytest.raises(ModelFileMissing):
        load_encoder(changed)
    (changed / name).write_bytes(content[:-1])
    with pytest.raises(ModelFileTruncated):
        load_encoder(changed)
    (changed / name).write_bytes(content)
    with pytest.raises(ModelFileCorrupt):
        load_encoder(changed)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda _name, one: numpy.random.default_rng(0).normal(0, 0.02, one.shape).astype(one.dtype), CanaryFault),
        (lambda name, one: one[::-1].copy() if name.endswith("layer.3.output.dense.weight") else one, CanaryFault),
        (lambda name, one: one * 0 if "layer.5" in name else one, CanaryFault),
        (lambda name, one: one + numpy.float32("nan") if "layer.2.output.dense.bias" in name else one, EncoderFault),
    ],
    ids=["random", "rows of one matrix turned round", "a layer of zeros", "a number that is none"],
)
def test_em_the_canary_fails_on_weights_that_are_not_the_encoders(
    folder: Path,
    tmp_path: Path,
    change: Callable[[str, numpy.ndarray], numpy.ndarray],
    fault: type[Exception],
) -> None:
    changed = copied(folder, tmp_path)
    weights = load_file(folder / "model.safetensors")
    (changed / "model.safetensors").unlink()
    save_file(
        {name: change(name, one) if one.dtype == numpy.float32 else one for name, one in weights.items()},
        changed / "model.safetensors",
    )
    # As if these were the files that are known: then only what they compute can tell.
    files = [
        EncoderFile(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(changed.iterdir())
    ]
    with pytest.raises(fault):
        load_encoder(changed, files=files)


def copied(folder: Path, tmp_path: Path) -> Path:
    """The same files by links."""
    for one in ENCODER_FILES:
        (tmp_path / one.name).symlink_to(folder / one.name)
    return tmp_path


def test_em_health_says_hashes_and_canary(loaded: LoadedEncoder) -> None:
    assert loaded.report["files"] == {one.name: one.sha256 for one in ENCODER_FILES}
    assert loaded.report["canary"]["pairs"] == 5
    assert loaded.report["canary"]["worst_difference"] <= loaded.report["canary"]["tolerance"]


def test_em_numbers_read_back_as_the_same_floats() -> None:
    vectors = numpy.random.default_rng(1).normal(size=(50, DIMENSIONS)).astype(numpy.float32)
    vectors[0, :4] = [0.0, -0.0, 1e-30, 1.0]
    for one in vectors:
        assert (numpy.array(json.loads(as_json(one, is_base64=False)), numpy.float32) == one).all()
        assert (numpy.frombuffer(base64.b64decode(json.loads(as_json(one, is_base64=True))), "<f4") == one).all()


def test_em_shortened_vectors_have_length_one() -> None:
    vectors = numpy.random.default_rng(1).normal(size=(50, DIMENSIONS)).astype(numpy.float32)
    for dimensions in (1, 2, 100, DIMENSIONS - 1):
        short = shortened(vectors, dimensions)
        assert short.shape == (50, dimensions)
        assert numpy.abs(numpy.linalg.norm(short, axis=1) - 1).max() < 1e-5
        assert (numpy.sign(short) == numpy.sign(vectors[:, :dimensions])).all()
    assert shortened(vectors, None) is vectors
    assert shortened(vectors, DIMENSIONS) is vectors


def test_em_a_step_is_bounded_whatever_is_asked() -> None:
    lengths = [int(one) for one in numpy.random.default_rng(2).integers(3, CONTEXT_TOKENS + 1, 500)]
    made = steps(lengths)
    assert sorted(index for step in made for index in step) == list(range(500))
    assert max(sum(lengths[index] for index in step) for step in made) <= STEP_TOKENS
    assert len(made) < 1.2 * sum(lengths) / STEP_TOKENS + 1


def test_em_numpy_computes_what_compiled_code_does() -> None:
    elementwise = pytest.importorskip("actors.inference.encoder.worker.elementwise", reason="needs macOS")
    numbers = numpy.random.default_rng(3)
    starts = numpy.array([0, 1, 18, 60, 100])
    qkv, bias = (numbers.normal(size=shape).astype(numpy.float32) for shape in ((100, 1152), (1152,)))
    for first, last in ((0, 100), (10, 55)):
        outs = [numpy.zeros((100, 384), numpy.float32) for _ in range(2)]
        plain.attend(qkv, outs[0], starts, bias, first, last)
        elementwise.attend(qkv, outs[1], starts, bias, first, last)
        assert numpy.abs(outs[0] - outs[1]).max() < 1e-4
        assert not outs[1][:first].any()
        assert not outs[1][last:].any()
    wide = [numpy.linspace(-12, 12, 153_600, dtype=numpy.float32).reshape(100, 1536) for _ in range(2)]
    shift = numbers.normal(size=1536).astype(numpy.float32)
    plain.gelu(wide[0], shift, 0, 100)
    elementwise.gelu(wide[1], shift, 0, 100)
    assert numpy.abs(wide[0] - wide[1]).max() < 1e-5
    before = numbers.normal(size=(100, 384)).astype(numpy.float32)
    states = [before.copy(), before.copy()]
    more = numbers.normal(size=(100, 384)).astype(numpy.float32)
    rows = [numbers.normal(size=384).astype(numpy.float32) for _ in range(3)]
    plain.normalize(states[0], more, *rows, 1e-12, 5, 90)
    elementwise.normalize(states[1], more, *rows, 1e-12, 5, 90)
    assert numpy.abs(states[0] - states[1]).max() < 1e-5
