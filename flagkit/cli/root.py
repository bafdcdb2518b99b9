"""The command group: names and one-line descriptions, so that ``flagkit --help`` imports no command.

A command is the attribute ``command`` of its module. What a command raises of flagkit's own, and an extra that is not
installed, become one line on stderr and exit status 1; wrong usage exits 1 too, because 2 is an answer of ``diff``.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any, Final

import click

from flagkit import __version__
from flagkit.cli.text import plain
from flagkit.errors import FlagkitError

#: name -> (module in this package, what ``--help`` says).
COMMANDS: Final = {
    "demo": ("demo", "Run the whole loop on this machine and report what happened."),
    "diff": ("diff", "Show who would get another variant, before anything is published."),
    "doctor": ("doctor", "Check everything a client depends on, and say what to fix."),
    "eval": ("eval", "Decide a flag for one context, and say why."),
    "history": ("history", "Show who changed what in a definitions file, when and why."),
    "kill": ("kill", "Switch a flag off for everyone."),
    "lint": ("lint", "Compare definitions with the code that asks for them."),
    "override": ("override", "Sign an override for one person's requests in production."),
    "power": ("power", "Say how soon a guard would find a regression."),
    "publish": ("publish", "Put definitions into Redis and tell every client of the change."),
    "ramp": ("ramp", "Change the percentage of a rollout."),
    "reset": ("reset", "Give what a guard has rolled back a new try."),
    "revert": ("revert", "Undo the last change of a flag."),
    "serve": ("serve", "Serve definitions and collect events, on one host."),
    "set": ("set", "Serve one variant to everyone."),
    "summary": ("summary", "Show the units and exposures a service has stored."),
    "validate": ("validate", "Check definitions files; one line a mistake."),
}
#: Modules that only an extra brings -> the extra.
_EXTRAS: Final = {
    "jsonschema": "cli",
    "starlette": "server",
    "uvicorn": "server",
    "redis": "redis",
    "itsdangerous": "overrides",
}


class _WrongUsage(click.UsageError):
    exit_code = 1

    def __init__(self, error: click.UsageError) -> None:
        super().__init__(error.format_message(), error.ctx)


class Commands(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"flagkit.cli.{COMMANDS[cmd_name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _WrongUsage(error) from None
        except FlagkitError as error:
            raise click.ClickException(plain(str(error))) from error
        except ModuleNotFoundError as missing:
            extra = _EXTRAS.get((missing.name or "").partition(".")[0])
            if extra is None:
                raise
            raise click.ClickException(f"this needs the extra `{extra}`: pip install 'flagkit[{extra}]'") from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="flagkit %(version)s")
def main() -> None:
    """Test in production without hurting anyone: feature flags decided inside your process.

    Exit status: 0 all is well, 1 something is wrong, 2 `diff` found more change than --max-percent allows.
    """
    for stream in (sys.stdout, sys.stderr):
        # What people put into definitions must never fail to print, whatever the terminal's encoding is.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
