"""P14: the TypeScript types compile in strict mode, fit the client's use and refuse what is wrong."""

from __future__ import annotations

import json
import subprocess

from tests.javascript.tools import FOLDER, npm_file


def test_p14_the_types_are_sound_typescript() -> None:
    done = subprocess.run(
        [
            npm_file(".bin/node"), npm_file("typescript/bin/tsc"), "--noEmit", "--strict", "--target", "es2022",
            "--module", "nodenext", "--moduleResolution", "nodenext", "--lib", "es2023,dom,dom.iterable",
            FOLDER / "types_check.ts",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_module_exports_what_its_types_declare() -> None:
    script = (
        "const [code, text] = [await import(process.argv[1]), process.argv[2]];"
        "const declared = [...text.matchAll(/export declare (?:class|const|function) (\\w+)/g)].map((one) => one[1]);"
        "console.log(JSON.stringify([Object.keys(code).sort(), declared.sort()]))"
    )
    folder = FOLDER.parents[1] / "protocol" / "javascript"
    done = subprocess.run(
        [
            npm_file(".bin/node"), "--input-type=module", "-e", script,
            folder / "leanvibe.js", (folder / "leanvibe.d.ts").read_text(encoding="utf-8"),
        ],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )  # fmt: skip

    exported, declared = json.loads(done.stdout)
    assert exported == declared
