"""Reports medians and their bounds as a table, as JSON and as a plot."""

from __future__ import annotations

import json
import statistics
from html import escape
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

__all__ = ["DRAFTS", "LOOP", "NO_DRAFTS", "RATE", "Figures", "Verdict", "judge", "plot", "print_json", "print_table"]

OURS, LOOP = "leanvibe", "BatchGenerator"
DRAFTS, NO_DRAFTS = "leanvibe, drafts", "leanvibe, no drafts"
RATE = "tokens/s"
_COLOURS = ("#1b6ca8", "#8fb8d8", "#c75c2e", "#e3a47f", "#5b8c3a", "#999999")


@frozen
class Verdict:
    """A figure with its bound."""

    what: str
    value: float
    bound: float
    is_floor: bool

    @property
    def is_met(self) -> bool:
        return self.value >= self.bound if self.is_floor else self.value <= self.bound


@define
class Figures:
    """All measurements, keyed by quantity, system and number of clients (0 if that does not apply)."""

    values: dict[tuple[str, str, int], list[float]] = field(factory=dict)
    notes: dict[str, str] = field(factory=dict)
    """What is not a number: the BLAS, sizes."""

    def add(self, what: str, system: str, clients: int, value: float | None) -> None:
        if value is not None:
            self.values.setdefault((what, system, clients), []).append(value)

    def median(self, what: str, system: str, clients: int = 0) -> float | None:
        found = self.values.get((what, system, clients))
        return None if found is None else statistics.median(found)

    def total(self, what: str, system: str, clients: int = 0) -> float | None:
        found = self.values.get((what, system, clients))
        return None if found is None else sum(found)

    def systems(self, what: str) -> list[str]:
        return list(dict.fromkeys(system for one, system, _ in self.values if one == what))

    def clients(self, what: str) -> list[int]:
        return sorted({clients for one, _, clients in self.values if one == what})


def judge(figures: Figures) -> list[Verdict]:
    """Every bound whose figures were measured."""
    verdicts: list[Verdict] = []

    def add(what: str, value: float | None, bound: float, *, is_floor: bool) -> None:
        if value is not None:
            verdicts.append(Verdict(what, value, bound, is_floor))

    def ratio(what: str, one: str, other: str, clients: int) -> float | None:
        first, second = figures.median(what, one, clients), figures.median(what, other, clients)
        return None if first is None or not second else first / second

    for clients in figures.clients(RATE):
        add(f"{OURS} / {LOOP}, {clients} clients", ratio(RATE, OURS, LOOP, clients), 0.90, is_floor=True)
        for system in figures.systems(RATE):
            if system.startswith("mlx_lm.server") and clients >= 8:
                add(f"{OURS} / {system}, {clients} clients", ratio(RATE, OURS, system, clients), 1.0, is_floor=True)
            if system == "llama-server" and clients == 32:
                add(f"{OURS} / {system}, {clients} clients", ratio(RATE, OURS, system, clients), 1.0, is_floor=True)
        add(f"failed requests of {OURS}, {clients} clients", figures.total("failed", OURS, clients), 0, is_floor=False)
    for clients in figures.clients("flood failed"):
        what = f"failed requests of {OURS}, flood of {clients}"
        add(what, figures.total("flood failed", OURS, clients), 0, is_floor=False)
    shipped = figures.median("decode tokens/s", f"{LOOP}, shipped BLAS", 8)
    fast = figures.median("decode tokens/s", LOOP, 8)
    if shipped and fast:
        add("decode with our BLAS / with the shipped one, batch of 8", fast / shipped, 5.0, is_floor=True)
    add("seconds for 50 tokens, 1 client", figures.median("fifty tokens s", OURS), 5.0, is_floor=False)
    add("p99 token gap beside a long prompt / idle", figures.median("gap ratio", OURS), 3.0, is_floor=False)
    add("first token of a second turn: new / kept", figures.median("turn ratio", OURS), 5.0, is_floor=True)
    add("seconds from a crash to the next token", figures.median("crash s", OURS), 3.0, is_floor=False)
    add("tokens/s of a plain question: drafts / none", figures.median("plain ratio", OURS), 0.97, is_floor=True)
    add("ms to look up 32k tokens among 100 prefixes", figures.median("lookup ms", OURS), 5.0, is_floor=False)
    return verdicts


def print_json(figures: Figures, verdicts: list[Verdict], about: dict[str, Any]) -> None:
    rows = [
        {"what": what, "system": system, "clients": clients, "values": values}
        for (what, system, clients), values in figures.values.items()
    ]
    judged = [{"what": one.what, "value": one.value, "bound": one.bound, "is_met": one.is_met} for one in verdicts]
    print(json.dumps({**about, "notes": figures.notes, "figures": rows, "verdicts": judged}))


def print_table(figures: Figures, verdicts: list[Verdict], title: str, *, is_judged: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(title, highlight=False)
    alone = Table("measured", "value")
    for what in dict.fromkeys(one for one, _, _ in figures.values):
        counts = figures.clients(what)
        if counts == [0]:
            alone.add_row(what, f"{figures.median(what, OURS):.4g}")
            continue
        table = Table(what, *[f"{clients} at once" for clients in counts])
        for system in figures.systems(what):
            found = [figures.median(what, system, clients) for clients in counts]
            table.add_row(system, *["–" if one is None else f"{one:.4g}" for one in found])
        console.print(table)
    if alone.row_count:
        console.print(alone)
    for name, text in figures.notes.items():
        console.print(f"{name}: {text}", highlight=False)
    for one in verdicts:
        colour, word = ("green", "met   ") if one.is_met else ("red", "MISSED")
        sign = "≥" if one.is_floor else "≤"
        word = word if is_judged else "–     "
        console.print(f"[{colour}]{word}[/] {one.what}: {one.value:.2f} (bound {sign} {one.bound:g})")


def plot(figures: Figures, file: Path) -> None:
    """Tokens per second as bars, one group for each number of clients, as an SVG that needs nothing to be seen."""
    systems, counts = figures.systems(RATE), figures.clients(RATE)
    highest = max((figures.median(RATE, one, count) or 0.0 for one in systems for count in counts), default=1.0)
    bar, gap, height, left, top = 34, 30, 240, 50, 20
    group = bar * len(systems) + gap
    width = left + group * len(counts) + 20
    foot = top + height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{foot + 40 + 18 * len(systems)}"',
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="{top - 6}">tokens per second, all clients together</text>',
        f'<line x1="{left}" y1="{foot}" x2="{width - 10}" y2="{foot}" stroke="black"/>',
    ]
    for place, count in enumerate(counts):
        begin = left + place * group + gap / 2
        parts.append(f'<text x="{begin}" y="{foot + 16}">{count} client{"s" if count > 1 else ""}</text>')
        for number, system in enumerate(systems):
            value = figures.median(RATE, system, count)
            if value is None:
                continue
            x, tall = begin + number * bar, (height - 20) * value / highest
            colour = _COLOURS[number % len(_COLOURS)]
            parts.append(
                f'<rect x="{x}" y="{foot - tall:.1f}" width="{bar - 4}" height="{tall:.1f}" fill="{colour}"/>'
                f'<text x="{x + (bar - 4) / 2}" y="{foot - tall - 4:.1f}" text-anchor="middle">{value:.0f}</text>'
            )
    for number, system in enumerate(systems):
        y = foot + 36 + 18 * number
        parts.append(
            f'<rect x="{left}" y="{y - 10}" width="12" height="12" fill="{_COLOURS[number % len(_COLOURS)]}"/>'
        )
        parts.append(f'<text x="{left + 18}" y="{y}">{escape(system)}</text>')
    file.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
