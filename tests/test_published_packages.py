"""What is published is complete and runs outside the checkout: wheel, client and npm package, built and installed as people do.

Wheels are fetched by pip as it is set up on this machine, as they were for the environment of the tests.
"""

from __future__ import annotations

import ast
import importlib.machinery
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio

from actors.command_line.main import leanvibe
from actors.command_line.man_pages import man_pages
from tests.javascript.tools import npm_file
from tests.server_fixture import count_to, eventually, running_server

TOP = Path(__file__).resolve().parent.parent
SECONDS = 900.0
"""For what fetches and installs; generous, for machines that do something else as well."""
pytestmark = pytest.mark.timeout(4 * SECONDS)


def load_script() -> ModuleType:
    """`scripts/build_packages` as a module."""
    loader = SourceFileLoader("build_packages", str(TOP / "scripts" / "build_packages"))
    spec = spec_from_loader(loader.name, loader)
    assert isinstance(spec, importlib.machinery.ModuleSpec)
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


SCRIPT = load_script()
VERSION = SCRIPT.project()["version"]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three, built."""
    npm_file(".bin/node")
    out = tmp_path_factory.mktemp("dist")
    SCRIPT.make(SCRIPT.PACKAGES, out)
    return out


def plain_environment(**settings: str) -> dict[str, str]:
    """This one without what could let a process find the checkout."""
    left_out = ("PYTHONPATH", "VIRTUAL_ENV", "PIP_CONSTRAINT")
    kept = {one: value for one, value in os.environ.items() if one not in left_out and not one.startswith("LEANVIBE_")}
    return kept | settings


def sources(*folders: str) -> set[str]:
    """Files of the checkout that belong into a package, by their paths."""
    return {
        str(one.relative_to(TOP))
        for folder in folders
        for one in (TOP / folder).rglob("*")
        if one.is_file() and "__pycache__" not in one.parts and one.name != ".DS_Store"
    }


def packed(wheel: Path) -> set[str]:
    """Files of a wheel but for what describes it."""
    with zipfile.ZipFile(wheel) as archive:
        return {one for one in archive.namelist() if ".dist-info/" not in one}


async def run(*command: Any, cwd: Path, **settings: str) -> str:
    """Run to the end and return what was printed."""
    with trio.fail_after(SECONDS):
        done = await trio.run_process(
            [str(one) for one in command], cwd=cwd, env=plain_environment(**settings), capture_stdout=True,
            capture_stderr=True, check=False, stdin=b"",
        )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.integration
def test_ps1_the_wheel_has_every_file_and_so_has_the_sdist(packages: Path) -> None:
    # The wheel was built out of the sdist.
    found = packed(packages / f"leanvibe-{VERSION}-py3-none-any.whl")
    pages = {one for one in found if "/data/share/man/man1/" in one}
    assert found - pages == sources("protocol", "runtime", "actors")
    assert {Path(one).name for one in pages} == set(man_pages(leanvibe))


@pytest.mark.integration
async def test_ps2_the_wheel_answers_far_from_the_checkout(packages: Path, tmp_path: Path) -> None:
    """Laid out as pip would; the environment's other packages stand in for what pip would fetch (scripts/try_packages fetches)."""
    site = tmp_path / "site"
    with zipfile.ZipFile(packages / f"leanvibe-{VERSION}-py3-none-any.whl") as archive:
        archive.extractall(site)
    # The finder of the editable installation would supply from the checkout what the wheel lacks.
    (site / "sitecustomize.py").write_text(
        "import sys\nsys.meta_path[:] = [one for one in sys.meta_path if '__editable__' not in getattr(one, '__module__', '')]\n"
    )
    where = {"PYTHONPATH": str(site), "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "home")}
    found = await run(
        sys.executable, "-c", "import actors, protocol, runtime; print(actors.__path__, protocol.__file__, runtime.__file__)",
        cwd=tmp_path, **where,
    )  # fmt: skip
    assert found.count(f"{site}{os.sep}") == 3, found
    await run(sys.executable, "-m", "compileall", "-q", site, cwd=tmp_path)
    program = (sys.executable, "-m", "actors.command_line.main")
    assert VERSION in await run(*program, "--version", cwd=tmp_path, **where)
    serve = [*program, "serve", "--engine", "mock", "--port", "0", "--ws-port", "0"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = await trio.lowlevel.open_process(serve, cwd=tmp_path, env=plain_environment(**where), stderr=output)
    try:
        await eventually(lambda: b"LeanVibe is up" in log.read_bytes(), seconds=SECONDS, what="a server that is up")
        said = await run(*program, "ask", "--json", "count to 5", cwd=tmp_path, **where)
    finally:
        server.terminate()
        await server.wait()
    assert json.loads(said)["text"] == count_to(5)


def test_ps3_the_client_needs_what_it_imports_and_nothing_of_the_server() -> None:
    imported = {
        name.split(".")[0]
        for path in (TOP / "protocol").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        for name in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    # The time zones are data, which zoneinfo finds by itself.
    needed = {one.replace("-", "_") for one in SCRIPT.CLIENT_NEEDS if one != "tzdata"}
    # attrs is imported by either of its names.
    imported = {"attrs" if one == "attr" else one for one in imported}
    assert imported - set(sys.stdlib_module_names) - {"protocol"} == needed


def test_ps3_a_requirement_that_the_server_lost_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SCRIPT, "project", lambda: {"dependencies": ["trio>=1", "attrs>=1"]})
    with pytest.raises(ValueError, match="trio-websocket, cattrs, msgspec, tzdata"):
        SCRIPT.client_requirements()


@pytest.mark.integration
@pytest.mark.websocket
async def test_ps4_the_client_alone_speaks_with_a_server(packages: Path, tmp_path: Path) -> None:
    wheel = packages / f"leanvibe_client-{VERSION}-py3-none-any.whl"
    assert packed(wheel) == {one for one in sources("protocol") if not one.startswith("protocol/javascript/")}
    folder = tmp_path / "clean"
    await trio.to_thread.run_sync(lambda: venv.create(folder, with_pip=False))
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    await run(*pip, "install", "--quiet", wheel, cwd=tmp_path)
    listed = json.loads(await run(*pip, "list", "--format", "json", cwd=tmp_path))
    versions = {one["name"].lower(): one["version"] for one in listed}
    assert versions["leanvibe-client"] == VERSION
    assert not {"leanvibe", "mlx", "numba", "numpy", "sqlalchemy", "quart", "click"} & set(versions)
    # The program of its README.
    readme = (TOP / "protocol" / "client" / "README.md").read_text(encoding="utf-8")
    program = readme.partition("```python\n")[2].partition("```")[0]
    async with running_server(tmp_path) as server:
        program = program.replace("ws://127.0.0.1:8765/ws", server.about.websocket_url).replace("hello", "count to 9")
        assert await run(python, "-c", program, cwd=tmp_path) == count_to(9)


@pytest.mark.integration
@pytest.mark.websocket
async def test_ps5_the_npm_package_is_installed_and_imported(packages: Path, tmp_path: Path) -> None:
    tarball = packages / f"leanvibe-{VERSION}.tgz"
    with tarfile.open(tarball) as archive:
        names = {one.removeprefix("package/") for one in archive.getnames()}
    assert names == {"LICENSE", "README.md", "package.json", "leanvibe.js", "leanvibe.d.ts", "messages.d.ts"}
    await run("npm", "install", "--silent", "--offline", "--no-audit", "--no-fund", tarball, cwd=tmp_path)
    about = json.loads((tmp_path / "node_modules" / "leanvibe" / "package.json").read_text(encoding="utf-8"))
    assert about["version"] == VERSION
    async with running_server(tmp_path) as server:
        (tmp_path / "program.mjs").write_text(
            'import { connect, SUBPROTOCOL } from "leanvibe";\n'
            f'const client = await connect("{server.about.websocket_url}", {{ clientId: "npm" }});\n'
            'for await (const text of await client.generate({ prompt: "count to 9" })) process.stdout.write(text);\n'
            "await client.close();\n",
            encoding="utf-8",
        )
        assert await run(npm_file(".bin/node"), "program.mjs", cwd=tmp_path) == count_to(9)


def test_ps6_an_unknown_package_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, TOP / "scripts" / "build_packages", "debian"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 2
    assert "unknown package 'debian'; there are leanvibe, client, npm" in done.stderr
