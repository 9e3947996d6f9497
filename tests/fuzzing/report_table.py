"""The report for people."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.fuzzing.harness import Report

__all__ = ["show"]


def show(report: Report) -> None:
    """Print it on standard output."""
    console = Console(soft_wrap=True)
    table = Table(title=f"fuzz {report.fuzzer}, seed {report.seed}", title_justify="left", show_header=False)
    content = report.as_json()
    for name in ("fuzzer", "seed", "findings"):
        content.pop(name)
    for name, value in content.items():
        told = ", ".join(f"{one} {figure}" for one, figure in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name.replace("_", " "), escape(told))
    console.print(table)
    for one in report.findings:
        console.print(f"- {one}", markup=False)
