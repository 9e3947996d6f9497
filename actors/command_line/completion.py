"""`leanvibe completion`: what a shell runs so that Tab completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from actors.command_line.printing import print_line

__all__ = ["completion"]

PROGRAM = "leanvibe"
VARIABLE = "_LEANVIBE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete `leanvibe` commands with Tab.

    \b
    Examples:
      leanvibe completion bash >> ~/.bashrc
      leanvibe completion zsh  >> ~/.zshrc
      leanvibe completion fish >  ~/.config/fish/completions/leanvibe.fish
    """
    found = get_completion_class(shell)
    assert found is not None, "click has these three"
    # Not `source()`, which starts bash to ask for its version.
    script = found(context.find_root().command, {}, PROGRAM, VARIABLE)
    print_line(script.source_template % script.source_vars())
