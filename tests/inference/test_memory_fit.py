"""Memory limits of two models together, and the memory of a loaded checkpoint."""

from pathlib import Path

import pytest

from actors.inference.checkpoints.errors import ModelFileCorrupt, ModelFileMissing
from actors.inference.checkpoints.weight_format import loaded_bytes
from actors.inference.memory_fit import (
    available_memory_bytes,
    fits_alone,
    fits_beside,
    measured_free_bytes,
    working_bytes,
)
from actors.inference.mlx.load import load_checkpoint
from tests.inference.models.small_checkpoints import write_small

GIGABYTE = 1_000_000_000
GOLDEN = Path(__file__).parent / "golden" / "tiny_phi3"


def test_md6_a_bound_counts_weights_alone() -> None:
    assert fits_beside(3, 4, bound_bytes=7, free_bytes=0)
    assert not fits_beside(3, 5, bound_bytes=7, free_bytes=GIGABYTE)
    assert fits_alone(7, 5, bound_bytes=7, free_bytes=0)
    assert not fits_alone(8, 0, bound_bytes=7, free_bytes=GIGABYTE)


def test_md6_without_a_bound_what_is_free_decides_and_unknown_means_yes() -> None:
    need = working_bytes(GIGABYTE)
    assert need > GIGABYTE
    assert fits_beside(GIGABYTE, GIGABYTE, bound_bytes=0, free_bytes=need)
    assert not fits_beside(GIGABYTE, GIGABYTE, bound_bytes=0, free_bytes=need - 1)
    assert fits_alone(GIGABYTE, GIGABYTE, bound_bytes=0, free_bytes=need - GIGABYTE)
    assert not fits_alone(GIGABYTE, GIGABYTE, bound_bytes=0, free_bytes=need - GIGABYTE - 1)
    assert fits_beside(GIGABYTE, 0, bound_bytes=0, free_bytes=None)


def test_what_is_free_is_the_kernels_own_estimate(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:    40 kB\n")
    nothing = tmp_path / "nothing"
    assert available_memory_bytes(7, meminfo, nothing) == 40 * 1024
    elsewhere = available_memory_bytes(0, nothing)
    assert elsewhere is not None
    assert available_memory_bytes(4096, nothing) == elsewhere - 4096
    assert (measured_free_bytes(meminfo, nothing), measured_free_bytes(nothing)) == (40 * 1024, None)


def test_a_containers_limit_bounds_what_is_free_and_pages_of_files_are_given_back(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable:    40 kB\n")

    def free(limit: str, current: int) -> int | None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{current}\n")
        return available_memory_bytes(0, meminfo, tmp_path)

    (tmp_path / "memory.stat").write_text("anon 9\ninactive_file 700\nactive_file 300\n")
    assert free("9000", 3000) == 7000
    assert free("9000", 500) == 9000
    assert free("9000", 99000) == 0
    assert free("max", 3000) == free("900000", 3000) == 40 * 1024


@pytest.mark.parametrize("quantized", [False, True])
def test_the_size_from_the_headers_is_that_of_the_loaded_parameters(tmp_path: Path, quantized: bool) -> None:
    from actors.inference.mlx.convert import Options, convert

    folder = GOLDEN
    if quantized:
        options = Options(bits=4, group_size=32, dtype=None)
        folder = convert(GOLDEN, tmp_path / "packed", options, lambda _stage, _fraction: None)
    spread = loaded_bytes(folder, as_float32=True)
    assert spread == load_checkpoint(folder, "cpu", may_compile=False).parameter_bytes
    packed = loaded_bytes(folder, as_float32=True, may_stay_packed=True)
    assert packed == load_checkpoint(folder, "cpu").parameter_bytes
    assert (packed < spread / 3) is quantized
    assert loaded_bytes(folder, as_float32=False) <= packed


def test_what_cannot_be_measured_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileMissing):
        loaded_bytes(tmp_path, as_float32=True)
    folder = write_small(tmp_path / "small")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelFileCorrupt):
        loaded_bytes(folder, as_float32=True)
