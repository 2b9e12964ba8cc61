"""The command line: `caffepy COMMAND`, one file a command, found by looking into this folder."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import shlex
import sys

import click
from click.shell_completion import CompletionItem

import caffepy
from caffepy.cli.terminal import echo
from caffepy.errors import CaffeError, blamed

_SHARED = {"options", "terminal"}
_WEIGHTS = (".caffemodel", ".h5", ".solverstate")


class Text(click.types.StringParamType):
    """Any text; most of it names files, which a shell completes."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


def _completing(command: click.Command) -> click.Command:
    """The command, whose texts are completed by the shell."""
    for param in command.params:
        if param.type is click.STRING:
            param.type = Text()
    return command


class Commands(click.Group):
    """Each module of this package is a command; its name is the module's, with dashes.

    The context's `obj` is the whole line of arguments, for who starts the command again.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = list(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = {m.name for m in pkgutil.iter_modules(__path__)} - _SHARED
        return sorted(n.rstrip("_").replace("_", "-") for n in names)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        name = name.replace("_", "-")
        for module in pkgutil.iter_modules(__path__):
            if module.name.rstrip("_").replace("_", "-") == name and module.name not in _SHARED:
                return _completing(importlib.import_module(f"caffepy.cli.{module.name}").command)
        return None

    def resolve_command(self, ctx, args):
        from caffepy.errors import did_you_mean

        if self.get_command(ctx, args[0]) is None:
            hint = did_you_mean(args[0], self.list_commands(ctx)) or "caffepy --help lists the commands."
            raise click.UsageError(f'no command "{args[0]}"\n  {hint}')
        return super().resolve_command(ctx, args)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(caffepy.__version__, message="caffepy version %(version)s")
def cli() -> None:
    """Train, test, time and inspect Caffe networks.

    Options may be written with one dash or two, with `=` or a blank, as Caffe's: -solver=s.prototxt.
    """


def normalize(args: list[str]) -> list[str]:
    """Caffe's spellings as ours: `-solver=x` and `--sigint_effect` become `--solver=x` and `--sigint-effect`."""
    out: list[str] = []
    for i, arg in enumerate(args):
        if arg == "--":
            return out + args[i:]
        if found := re.match(r"--?([A-Za-z][\w-]+)(=.*)?$", arg, re.DOTALL):
            arg = f"--{found[1].replace('_', '-')}{found[2] or ''}"
        out.append(arg)
    return out


def main(args: list[str] | None = None) -> None:
    """Run a command; what the user can mend ends in one or two lines on stderr and exit status 1."""
    try:
        args = sys.argv[1:] if args is None else args
        cli.main(normalize(args) or ["--help"], prog_name="caffepy", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except Exception as error:
        message = explained(error)
        if message is None:
            raise
        echo(message, err=True, before="error: ")
        sys.exit(1)


def explained(error: Exception) -> str | None:
    """What to tell the user about an error that is not caffepy's own mistake, else None."""
    if (said := blamed(error)) is not None:  # whatever its type: somebody's own layer raised it
        return str(said)
    if isinstance(error, CaffeError):
        return str(error)
    if isinstance(error, click.ClickException):
        return with_help(error)
    if isinstance(error, OSError) and error.errno is not None:  # a full disk, a folder without permission
        # Not its strerror, where h5py tells a story of several lines.
        return ": ".join([*([os.fsdecode(error.filename)] if error.filename else []), os.strerror(error.errno)])
    if isinstance(error, MemoryError):
        return f"not enough memory: {error or 'none is left'}\n  Reduce batch_size, or the size of the pictures."
    if isinstance(error, RuntimeError) and type(error).__name__ == "OutOfMemoryError":  # PyTorch's, of a GPU
        return f"not enough memory: {str(error).splitlines()[0]}\n  Reduce batch_size, or add --precision bf16."
    return None


def with_help(error: click.ClickException) -> str:
    """The message, with a pointer to the help where it offers no remedy of its own."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if "\n" in message or "Did you mean" in message or context is None:
        return message
    if isinstance(error, click.MissingParameter) and (line := _meant(error.param, context)):
        return f"{message}\n  {line}"
    return f"{message}\n  {context.command_path} --help lists the options."


def _meant(option: click.Parameter | None, context: click.Context) -> str:
    """`Write: caffepy train --solver s.prototxt`, where a value stands without the option that is missing."""
    line = context.find_root().obj
    if not isinstance(option, click.Option) or not line:
        return ""
    given, alone, _ = context.command.make_parser(context).parse_args(line[1:])
    if len(alone) != 1 or given.get(option.name or "") or alone[0].endswith(_WEIGHTS):
        return ""
    at = len(line) - 1 - line[::-1].index(alone[0])
    return f"Write: {context.command_path} {shlex.join([*line[1:at], option.opts[0], *line[at:]])}"
