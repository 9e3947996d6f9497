"""The `leanvibe` command. Groups are imported when they are used, so that each starts quickly."""

from __future__ import annotations

import gc
import importlib
import io
import sys
from pathlib import Path
from typing import NoReturn

import click

from actors.command_line.everywhere import (
    ReachingGroup,
    Remembered,
    ca_option,
    client_option,
    data_dir_option,
    url_option,
)
from actors.command_line.output import end_when_nobody_reads
from actors.command_line.printing import end_line, print_line
from actors.queued_output import open_missing_descriptors, queue_standard_output
from actors.startup import collect_rarely, import_structlog_alone, pause_collections, without_collections

__all__ = ["main"]

_COMMANDS = {
    "serve": ("actors.command_line.serve", "serve", "Run the server."),
    "ask": ("actors.command_line.ask_command", "ask", "Ask one question and stream the answer."),
    "chat": ("actors.command_line.chat", "chat", "Talk with the model."),
    "task": ("actors.command_line.task", "task", "Add, move and follow tasks."),
    "status": ("actors.command_line.status", "status", "Show how the server and its engine are."),
    "inspect": ("actors.command_line.inspect", "inspect", "Look into the live supervision tree."),
    "token": ("actors.command_line.token", "token", "Control access: create, list and revoke tokens."),
    "notify": ("actors.command_line.notify", "notify", "Read and send notifications, and set preferences."),
    "model": ("actors.command_line.model", "model", "Find and prepare models."),
    "models": ("actors.command_line.model", "list_models", "Show the models of this machine (as `model list`)."),
    "conversations": ("actors.command_line.conversations", "conversations", "List, show, export and remove them."),
    "settings": ("actors.command_line.settings", "settings", "Show every setting and where it comes from."),
    "doctor": ("actors.command_line.doctor", "doctor", "Find what keeps the server from running well."),
    "service": ("actors.command_line.service", "service", "Run the server at boot."),
    "backup": ("actors.command_line.backup", "backup", "Write everything the server keeps to one file."),
    "restore": ("actors.command_line.backup", "restore", "Put such a file back."),
    "cluster": ("actors.command_line.cluster", "cluster", "List the nodes of a cluster."),
    "uninstall": ("actors.command_line.uninstall", "uninstall", "Show what is on disk, and remove it."),
    "connect": ("actors.command_line.connect", "connect", "Tell another program to use this server."),
    "man": ("actors.command_line.man", "man", "Print the manual pages, or install them."),
    "mcp": ("actors.command_line.mcp", "mcp", "Offer tasks, conversations and the model to agents by MCP."),
    "completion": ("actors.command_line.completion", "completion", "Print the script for completion in a shell."),
}


_ELSEWHERE = ("ask", "chat", "task", "notify", "conversations", "status", "connect", "mcp", "model", "models")
"""Commands that reach servers elsewhere, of `model` some; the others work on the files or the socket of this machine's."""
_OWN_CLIENT = ("token",)
"""Commands whose own `--client` says something else."""


class _LazyGroup(ReachingGroup):
    """Knows its commands by name; the module behind one is imported when it runs or is asked for help."""

    def reaching(self, args: list[str]) -> set[str]:
        """Return all of its options, wherever they appear."""
        found = super().reaching(args)
        return found - {"--client"} if any(one in args for one in _OWN_CLIENT) else found

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Also takes a `--json` that stands before the command's name to its end."""
        args = list(args)
        place, valued = 0, self.reaching(args)
        while place < len(args) and args[place].startswith("-") and args[place] != "--":
            if args[place] == "--json":
                del args[place]
                end = args.index("--") if "--" in args else len(args)
                args.insert(end, "--json")
                break
            place += 2 if args[place] in valued else 1
        return super().parse_args(context, args)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        entry = _COMMANDS.get(name)
        if entry is None:
            return None
        with without_collections():
            command: click.Command = getattr(importlib.import_module(entry[0]), entry[1])
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="leanvibe")
@data_dir_option
@client_option
@url_option
@ca_option
@click.pass_context
def leanvibe(
    context: click.Context, data_dir: Path | None, client_id: str | None, url: str | None, ca: Path | None
) -> None:
    """A local AI assistant: one server on your machine, one model, all your devices.

    --data-dir, --client, --url, --ca and --json may stand here or behind any command.
    """
    context.meta[Remembered.DATA_DIR] = data_dir
    context.meta[Remembered.CLIENT] = client_id
    context.meta[Remembered.URL] = url
    context.meta[Remembered.CA] = ca
    if ca is not None and not (url or "").lower().startswith(("https://", "wss://")):
        raise click.UsageError(
            "--ca names certificates to trust at an https:// or wss:// address; give that with --url"
        )
    if url is not None and data_dir is not None:
        raise click.UsageError("--url and --data-dir both say which server is meant; give one of them")
    if url is not None and context.invoked_subcommand not in _ELSEWHERE:
        from actors.command_line.options import refuse_elsewhere

        refuse_elsewhere(str(context.invoked_subcommand))


def main() -> NoReturn:
    """Entry point of the console script."""
    try:
        Path.cwd()
    except FileNotFoundError:
        # So much is looked for from here that every command would end in a stack.
        sys.exit("leanvibe: the current folder has been removed; change to another one (cd ~) and try again")
    if sys.argv[1:2] == ["serve"]:
        pause_collections()
        queue_standard_output()
        import_structlog_alone()
    else:
        collect_rarely()
        open_missing_descriptors()
        end_when_nobody_reads()
    try:
        ended = leanvibe.main(standalone_mode=False)
    except click.ClickException as error:
        # It repeats what was typed, which may have been copied from anywhere.
        said = io.StringIO()
        error.show(said)
        print_line(said.getvalue(), err=True, newline=False)
        sys.exit(error.exit_code)
    except click.Abort:
        print_line("Aborted!", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        end_line()
        sys.exit(130)
    # Here, and not on the interpreter's way out, where it could no longer end the command in order.
    sys.stdout.flush()
    # The interpreter looks through everything once more on its way out.
    gc.freeze()
    # What `--help` and the like end with.
    sys.exit(ended if isinstance(ended, int) else 0)


if __name__ == "__main__":
    main()
