"""The entry point: finds the command, and turns errors into one sentence and an exit code."""

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

from leaderjob.cli.prose import print_prose
from leaderjob.cli.streams import ignore_stdout, open_closed_streams
from leaderjob.errors import LeaderjobError
from leaderjob.version import __version__

_COMMANDS = {
    "accept-restore": "leaderjob.cli.accept_restore",
    "barrier": "leaderjob.cli.barrier",
    "config": "leaderjob.cli.config",
    "demo": "leaderjob.cli.demo",
    "doctor": "leaderjob.cli.doctor",
    "elect": "leaderjob.cli.elect",
    "forget": "leaderjob.cli.forget",
    "init": "leaderjob.cli.init",
    "lock": "leaderjob.cli.lock",
    "progress": "leaderjob.cli.progress",
    "query": "leaderjob.cli.query",
    "queue": "leaderjob.cli.queue",
    "resign": "leaderjob.cli.resign",
    "run": "leaderjob.cli.run",
    "runs": "leaderjob.cli.runs",
    "search": "leaderjob.cli.query",
    "service": "leaderjob.cli.service",
    "settings": "leaderjob.cli.settings",
    "status": "leaderjob.cli.status",
    "topic": "leaderjob.cli.topic",
    "transfer": "leaderjob.cli.resign",
    "trigger": "leaderjob.cli.trigger",
    "watch": "leaderjob.cli.watch",
}
_USAGE = 2
_CANNOT_PRINT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_INTERRUPTED = 130


class _Commands(click.Group):
    """Imports a command's module only when that command is used: ``--help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module), cmd_name.replace("-", "_"))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Before click, which would end the program with 1: whoever stops reading (`| head`) has what
        they wanted."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            ignore_stdout()
            return 0


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="leaderjob")
def cli() -> None:
    """A leader-elected singleton job runner on etcd: one replica builds, all replicas serve."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    open_closed_streams()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # gRPC's core writes lines of its own to stderr, about what we report ourselves.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        result: Any = cli.main(arguments, prog_name="leaderjob", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return _USAGE
    except OSError as error:
        # An error about a file names it; a stream has no name.
        if error.errno not in _CANNOT_PRINT or error.filename is not None:
            raise
        ignore_stdout()
        print_prose(f"leaderjob: standard output cannot be written: {error.strerror}", err=True)
        return 1
    except LeaderjobError as error:
        print_prose(f"leaderjob: {error}", err=True)
        return error.exit_code
    except BaseExceptionGroup as group:
        ours, others = group.split(LeaderjobError)
        if ours is None or others is not None:
            raise
        return _tell(ours)
    return result if isinstance(result, int) else 0


def _tell(errors: BaseExceptionGroup[LeaderjobError]) -> int:
    """Print the errors of a group, a sentence each; returns the exit code of the first."""
    codes = []
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            codes.append(_tell(error))
        else:
            print_prose(f"leaderjob: {error}", err=True)
            codes.append(error.exit_code)
    return codes[0]
