"""The console's modules: their types hold, without a build, and what other people wrote is what `VENDORED.toml` says."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tomllib
from pathlib import Path

from actors.rest.console_files import FOLDER
from tests.javascript.tools import FOLDER as JAVASCRIPT
from tests.javascript.tools import REPOSITORY, npm_file

VENDOR = FOLDER / "vendor"
TABLE = tomllib.loads((VENDOR / "VENDORED.toml").read_text(encoding="utf-8"))
TYPES = {
    "preact": 'export * from "preact";',
    "preact_hooks": 'export * from "preact/hooks";',
    "signals": 'export * from "@preact/signals";',
    "htm": 'export { default } from "htm";',
    "marked": 'export * from "marked";',
}
"""Of each vendored file that the console imports by name: the types that its package brings along."""


def test_pg1_the_modules_hold_their_types(tmp_path: Path) -> None:
    for one in FOLDER.glob("*.js"):
        shutil.copy(one, tmp_path / one.name)
    for name in ("leanvibe.js", "leanvibe.d.ts", "messages.d.ts"):
        shutil.copy(REPOSITORY / "protocol" / "javascript" / name, tmp_path / name)
    (tmp_path / "vendor").mkdir()
    for name, declaration in TYPES.items():
        (tmp_path / "vendor" / f"{name}.d.ts").write_text(declaration, encoding="utf-8")
    (tmp_path / "vendor" / "highlight.d.ts").write_text("declare const library: any; export default library;", "utf-8")
    (tmp_path / "node_modules").symlink_to(JAVASCRIPT / "node_modules")
    done = subprocess.run(
        [
            npm_file(".bin/node"), npm_file("typescript/bin/tsc"), "--noEmit", "--allowJs", "--checkJs", "--strict",
            "--target", "es2023", "--module", "esnext", "--moduleResolution", "bundler", "--skipLibCheck",
            "--lib", "es2023,dom,dom.iterable", tmp_path / "app.js",
        ],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_pg2_every_vendored_file_is_what_the_table_says() -> None:
    told = {one["file"]: one["sha256"] for package in TABLE["package"] for one in package["files"]}
    found = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in VENDOR.glob("*.js")}
    assert found == told
    licences = (VENDOR / "LICENCES.txt").read_text(encoding="utf-8")
    for package in TABLE["package"]:
        assert {"name", "version", "licence", "source", "archive_sha256"} <= set(package)
        assert f"{package['name']} {package['version']} ({package['licence']})" in licences


def test_the_table_and_the_packages_of_the_types_are_of_one_version() -> None:
    for package in TABLE["package"]:
        name = package["name"].replace("@highlightjs/cdn-assets", "highlight.js")
        about = npm_file(f"{name}/package.json").read_text(encoding="utf-8")
        assert f'"version": "{package["version"]}"' in about, name
