"""Installs this checkout into the environment of the running Python, and reports progress.

Run by `environment.sh`, when nothing but the standard library is available: install_packages.py FOLDER EXTRAS
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

LOG_NAME = "install.log"
POLL_SECONDS = 0.25
QUIET_SECONDS = 5.0
"""Where nobody watches a terminal a line comes after as much time, not four a second."""
LAST_LINES = 15
END_SECONDS = 5.0
"""Time that pip gets to end after a signal."""

_COLLECTING = re.compile(r"Collecting (?P<name>[A-Za-z0-9._-]+)")
_PRESENT = re.compile(r"Requirement already satisfied: (?P<name>[A-Za-z0-9._-]+)")
_FETCHING = re.compile(
    r"\s*(?:Downloading|Using cached) (?P<file>[^\s/]+/)*(?P<name>[^\s/]+?)-[^\s]*(?P<size> \([^)]+\))?"
)
_INSTALLING = re.compile(r"Installing collected packages: (?P<names>.+)")


class Progress:
    """Progress of pip, read from the lines it prints."""

    def __init__(self) -> None:
        self.found: dict[str, None] = {}
        """Names of the required packages that pip has resolved until now."""
        self.installing = 0
        """How many are to be put into their places; 0 while it still fetches."""
        self._now = ""

    def take(self, line: str) -> None:
        """Read one line of pip's output."""
        if found := _COLLECTING.match(line) or _PRESENT.match(line):
            self.found[found["name"].lower()] = None
            self._now = found["name"]
        elif found := _FETCHING.match(line):
            self._now = found["name"] + (found["size"] or "")
        elif found := _INSTALLING.match(line):
            self.installing = len(found["names"].split(", "))

    def said(self, installed: int, seconds: float) -> str:
        """Format one line of progress; ``installed`` is the number of packages in place."""
        if self.installing:
            done = min(installed, self.installing)
            return f"step 1 of 3, packages: {done} of {self.installing} installed ({seconds:.0f} s); then the model"
        if self.found:
            return f"step 1 of 3, packages: fetching number {len(self.found)}, {self._now} ({seconds:.0f} s)"
        return f"step 1 of 3, packages: asking what is needed ({seconds:.0f} s)"


def forget_half_installed(packages: Path) -> list[str]:
    """Remove what says that a package is installed where its installation was interrupted; pip then does it again.

    pip writes the list of a package's files at last. Returns the names that were forgotten.
    """
    forgotten = []
    for about in packages.glob("*.dist-info"):
        if not (about / "RECORD").is_file():
            shutil.rmtree(about, ignore_errors=True)
            forgotten.append(about.name.partition("-")[0])
    for leftover in packages.glob("~*"):
        # How pip names what it is about to remove.
        shutil.rmtree(leftover, ignore_errors=True)
    return forgotten


def installed_packages(packages: Path) -> set[str]:
    """Return the names of packages that are installed completely."""
    return {record.parent.name for record in packages.glob("*.dist-info/RECORD")}


def main(top: Path, extras: str) -> int:
    """Exit status of pip."""
    packages = Path(sysconfig.get_paths()["purelib"])
    forget_half_installed(packages)
    before = installed_packages(packages)
    log = Path(sys.prefix) / LOG_NAME
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--constraint", str(top / "constraints.txt"), "--editable", f"{top}{extras}"]
    progress = Progress()
    pip = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    # Ctrl-C reaches pip by itself; a plain kill does not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def read() -> None:
        assert pip.stdout is not None
        with log.open("w", encoding="utf-8") as file:
            for line in pip.stdout:
                file.write(line)
                file.flush()
                progress.take(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        show(pip, progress, packages, before)
        reader.join()
    except KeyboardInterrupt:
        return 130
    finally:
        end(pip)
        reader.join()
    if pip.returncode:
        words = log.read_text(encoding="utf-8").splitlines()[-LAST_LINES:]
        print(
            *words,
            "leanvibe: the installation failed; what pip said is in .venv/install.log",
            sep="\n",
            file=sys.stderr,
        )
    return pip.returncode


def show(pip: subprocess.Popen[str], progress: Progress, packages: Path, before: set[str]) -> None:
    """Report progress until pip has ended: in one line of a terminal, elsewhere at intervals."""
    began = said_at = time.monotonic() - QUIET_SECONDS
    began += QUIET_SECONDS
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    while pip.poll() is None:
        now = time.monotonic()
        if is_terminal or now - said_at >= QUIET_SECONDS:
            line = progress.said(len(installed_packages(packages) - before), now - began)
            width = shutil.get_terminal_size().columns - 1
            text = f"leanvibe: {line}"
            sys.stderr.write(f"\r\x1b[K{text[:width]}" if is_terminal else f"{text}\n")
            sys.stderr.flush()
            said_at = now
        with contextlib.suppress(subprocess.TimeoutExpired):
            pip.wait(POLL_SECONDS)
    if is_terminal:
        sys.stderr.write("\r\x1b[K")
    if pip.returncode == 0:
        seconds = time.monotonic() - began
        print(f"leanvibe: step 1 of 3, packages: all installed ({seconds:.0f} s)", file=sys.stderr)


def end(pip: subprocess.Popen[str]) -> None:
    """See that pip runs no longer."""
    if pip.poll() is None:
        pip.terminate()
        try:
            pip.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pip.kill()
            pip.wait()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
