"""Damaged and malicious checkpoints, made of a sound one, and GGUF files of the same kind."""

from __future__ import annotations

import base64
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.fuzzing.inputs import draw_for
from tests.fuzzing.values import RAW, HostileValues

__all__ = ["Checkpoint", "CheckpointInputs"]

NOT_REGULAR = ("fifo", "folder", "loop", "/dev/zero", "/dev/null", "/etc/passwd", "gone")
TEMPLATES = (
    "{% set n = 9**9 %}{{ 9**n }}", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}x", "{{ 'a' * 10**9 }}",
    "{{ messages | tojson(indent=10**9) }}", "{{ ''.__class__.__mro__ }}", "{% include 'config.json' %}", "{{ x.y.z }}", "{% endfor %}", "{{", "",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ raise_exception('no') }}", "{% for m in messages %}{{ m.content }}{% endfor %}",
    "{{ '%999999999d' % 1 }}", "{{ range(10**12) | list }}", "{{ 'a' | center(10**10) }}", "\ud800", "{{ namespace() }}", "{% set a = [] %}{% for i in a %}{% endfor %}",
    "{{ cycler(1).next }}", "{{ lipsum(n=10**6) }}", "(" * 50_000,
)  # fmt: skip
PATTERNS = (
    "(x+x+)+y",
    "(a|a)*$",
    "(?R)",
    "(",
    "\\p{Foo}",
    "a{1000}{1000}{1000}",
    "(?=.*)*",
    "[",
    "(?<n>a)\\k<n>" * 500,
    "",
)


@frozen
class Checkpoint:
    """Which files stand in the place of the sound ones."""

    number: int
    kind: str
    files: dict[str, bytes | str | None]
    """Content by name; None takes the file away, a word is something that is not a regular file."""

    @property
    def is_gguf(self) -> bool:
        return self.kind.startswith("gguf")

    def write(self, base: Path, folder: Path) -> Path:
        """Make the folder; sound files are links to those of ``base``."""
        folder.mkdir()
        for file in () if self.is_gguf else base.iterdir():
            if file.name not in self.files and file.is_file():
                os.link(file, folder / file.name)
        for name, content in self.files.items():
            path = folder / name
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content == "fifo":
                os.mkfifo(path)
            elif content == "folder":
                path.mkdir()
            elif content is not None:
                path.symlink_to({"loop": path, "gone": "/nowhere"}.get(content, content))
        return folder

    def save(self, folder: Path, seed: int, reason: str) -> Path:
        """Write it to a file."""
        path = folder / f"{self.kind.split()[0]}-{seed}-{self.number}.json"
        files = {
            name: base64.b64encode(one).decode() if isinstance(one, bytes) else one for name, one in self.files.items()
        }
        content = {"reason": reason, "seed": seed, "number": self.number, "kind": self.kind, "files": files}
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return path


class CheckpointInputs:
    """`make(number)` is the same for the same seed and the same sound folder."""

    def __init__(self, seed: int, base: Path) -> None:
        self.seed = seed
        self._base = base

    def make(self, number: int) -> Checkpoint:
        """The checkpoint of this number; every other one is a GGUF file, which are quicker to judge."""
        draw = draw_for(self.seed, number)
        if number % 2:
            return Checkpoint(number, "gguf", {"a.gguf": self._gguf(draw)})
        makers: tuple[Callable[[random.Random], tuple[str, dict[str, bytes | str | None]]], ...] = (
            self._config, self._config, self._tokenizer, self._tokenizer, self._template, self._template, self._weights, self._weights,
            self._beside, self._file,
        )  # fmt: skip
        kind, files = draw.choice(makers)(draw)
        return Checkpoint(number, kind, files)

    def _json(self, name: str) -> Any:
        return json.loads((self._base / name).read_text(encoding="utf-8"))

    def _damaged(self, draw: random.Random, content: Any, *, times: int = 1) -> bytes:
        """JSON of which some parts are others; now and then what is no JSON."""
        values = HostileValues(draw, {})
        for _ in range(times):
            at, parent, key = content, None, None
            while isinstance(at, dict | list) and at and (parent is None or draw.random() < 0.7):
                parent, key = at, draw.choice(list(at)) if isinstance(at, dict) else draw.randrange(len(at))
                at = parent[key]
            if parent is not None and draw.random() < 0.85:
                parent[key] = draw.choice((values.anything(), values.number(), values.number(), values.text(), None))
            elif parent is not None:
                del parent[key]
        return values.raw(content)

    def _config(self, draw: random.Random) -> tuple[str, dict[str, bytes | str | None]]:
        return "config", {
            "config.json": self._damaged(draw, self._json("config.json"), times=draw.choice((1, 1, 2, 5)))
        }

    def _tokenizer(self, draw: random.Random) -> tuple[str, dict[str, bytes | str | None]]:
        content = self._json("tokenizer.json")
        if draw.random() < 0.5:
            pattern = draw.choice(({"Regex": draw.choice(PATTERNS)}, {"String": draw.choice(("", "a", "\0"))}))
            part = draw.choice(
                (
                    (
                        "normalizer",
                        {"type": "Replace", "pattern": pattern, "content": draw.choice(("z", "", "aa" * 500))},
                    ),
                    ("pre_tokenizer", {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}),
                    ("decoder", {"type": "Replace", "pattern": pattern, "content": "a"}),
                    (
                        "truncation",
                        {"max_length": 2**60, "strategy": "LongestFirst", "stride": 2**61, "direction": "Right"},
                    ),
                    ("added_tokens", [{"id": 2**32 - 1, "content": "x", "special": True}]),
                )
            )
            return f"tokenizer {part[0]}", {"tokenizer.json": json.dumps({**content, part[0]: part[1]}).encode()}
        if draw.random() < 0.3:
            return "tokenizer_config", {
                "tokenizer_config.json": self._damaged(draw, self._json("tokenizer_config.json"))
            }
        return "tokenizer", {"tokenizer.json": self._damaged(draw, content, times=draw.choice((1, 2)))}

    def _template(self, draw: random.Random) -> tuple[str, dict[str, bytes | str | None]]:
        text = draw.choice(TEMPLATES)
        if draw.random() < 0.3:
            text = (self._base / "chat_template.jinja").read_text(encoding="utf-8") + text
        return "template", {"chat_template.jinja": text.encode("utf-8", "surrogatepass")}

    def _weights(self, draw: random.Random) -> tuple[str, dict[str, bytes | str | None]]:
        name = draw.choice(sorted(one.name for one in self._base.glob("*.safetensors")))
        data = (self._base / name).read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
        kind = draw.randrange(5)
        if kind == 0:
            made = self._damaged(draw, header, times=draw.choice((1, 3)))
        elif kind == 1:
            shape = [draw.choice((0, 1, 2, 2**31, 2**60, 2**64, -1))] * draw.choice((1, 9, 5000, 100_000))
            made = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
        else:
            made = json.dumps(header).encode()
        told = draw.choice((0, 1, 2**31, 2**63, 2**64 - 1, len(made) + 5)) if kind == 2 else len(made)
        if kind == 3:
            rest = rest[: draw.randrange(len(rest))]
        elif kind == 4:
            at = draw.randrange(len(rest) - 8)
            rest = rest[:at] + b"\xff" * 8 + rest[at + 8 :]
        return f"weights {kind}", {name: struct.pack("<Q", told) + made + rest}

    def _beside(self, draw: random.Random) -> tuple[str, dict[str, bytes | str | None]]:
        name = draw.choice(("manifest.json", "manifest.json", "generation_config.json", "model.safetensors.index.json"))
        content = self._json(name) if (self._base / name).exists() else {"files": {"config.json": "0"}, "format": 1}
        return f"beside {name}", {name: self._damaged(draw, content)}

    def _file(self, draw: random.Random) -> tuple[str, dict[str, bytes | str | None]]:
        name = draw.choice(sorted(one.name for one in self._base.iterdir() if one.is_file()))
        what = draw.choice((None, *NOT_REGULAR, b"", draw.choice(RAW)))
        return f"file {name}", {name: what}

    def _gguf(self, draw: random.Random) -> bytes:
        """A header written by hand, with numbers that lie."""

        def count() -> int:
            return draw.choice((0, 1, 2, 3, 2**16, 2**31, 2**32, 2**63, 2**64 - 1))

        def text(content: bytes) -> bytes:
            return struct.pack("<Q", count() if draw.random() < 0.05 else len(content)) + content

        pairs, tensors = draw.choice((0, 1, 3, 8)), draw.choice((0, 1, 2))
        data = b"GGUF" + struct.pack("<IQQ", draw.choice((3, 3, 3, 2, 1, 0, 2**24 * 3)), *(
            count() if draw.random() < 0.1 else one for one in (tensors, pairs)
        ))  # fmt: skip
        for at in range(pairs):
            kind = draw.randrange(14)
            data += text(
                draw.choice((b"general.architecture", b"general.alignment", b"k%d" % at, b"\xff", b"", b"a" * 70_000))
            )
            data += struct.pack("<I", kind)
            sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
            if kind == 8:
                data += text(b"llama")
            elif kind == 9:
                inner = draw.choice((*sizes, 8, 9, 13))
                length = count() if draw.random() < 0.3 else 3
                data += struct.pack("<IQ", inner, length) + (
                    text(b"t") * 3 if inner == 8 else bytes(3 * sizes.get(inner, 12))
                )
            else:
                data += draw.choice((b"\0", b"\xff", b"\x20")) * sizes.get(kind, 4)
        for at in range(tensors):
            rank = count() if draw.random() < 0.1 else draw.choice((0, 1, 2, 4, 5))
            data += text(b"t%d.weight" % at) + struct.pack("<I", rank & 0xFFFFFFFF)
            data += b"".join(struct.pack("<Q", draw.choice((0, 1, 4, 32, 2**31, 2**63))) for _ in range(min(rank, 5)))
            data += struct.pack("<IQ", draw.choice((0, 1, 2, 8, 12, 30, 2**31)), draw.choice((0, 0, 32, 1, 2**63)))
        data += bytes(draw.choice((0, 31, 64, 4096)))
        if draw.random() < 0.3:
            data = data[: draw.randrange(len(data))]
        return data
