"""The command ``autoseg``: from words to one call, from errors to one line and an exit code.

0 when all is done, 1 when some cases failed (they are listed), 2 when the command cannot run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, cast

import typer

from autoseg.cli import data, evaluation, exchange, prediction, selection, tools, training
from autoseg.cli.several_processes import several_processes
from autoseg.errors import AutosegError, InterruptedRunError

GREETING = """autoseg: from a folder of annotated images to a trained, evaluated segmentation model.

    autoseg plan Task_KiTS               measures the data, decides everything, says why
    autoseg preprocess                   prepares every planned configuration
    autoseg train 3d_fullres fold0       trains one fold; resumes by itself
    autoseg predict -i in/ -o out/       segments new images with the best model there is

New here? 'autoseg demo' does all of it in a few minutes on data it makes up.
'autoseg --help' lists all commands, 'autoseg doctor' looks at this machine.
"""

INTERRUPTED = 130

# Newer versions of typer bring a click of their own: ask it for the class, not click.
_ClickError = cast("type[Exception]", typer.BadParameter.__bases__[0].__bases__[0])

app = typer.Typer(
    name="autoseg",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
) -> None:
    """Medical image segmentation without a hyper-parameter to choose."""
    if version:
        from autoseg import __version__

        typer.echo(f"autoseg {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(GREETING)


for _command in (
    *(tools.init, data.check, data.plan, data.preprocess),
    *(training.train, prediction.predict, training.validate),
    *(evaluation.evaluate, evaluation.compare, selection.select),
    *(exchange.export,),
    *(tools.overlay, training.run, tools.demo, tools.doctor),
):
    app.command()(_command)
app.command("import")(exchange.import_models)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Args:
        arguments: words after ``autoseg``; those of the process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with several_processes(words, os.environ) as team:
            code = command.main(words, prog_name="autoseg", standalone_mode=False, obj=team)
            sys.stdout.flush()
            if code == INTERRUPTED:  # newer versions of typer keep the interrupt to themselves
                raise KeyboardInterrupt
    except InterruptedRunError as error:
        typer.echo(str(error), err=True)
        return INTERRUPTED
    except AutosegError as error:
        return _refuse(str(error))
    except _ClickError as error:
        return _refuse(_usage_message(error))
    except (KeyboardInterrupt, typer.Abort):
        return _refuse("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output left; what Python flushes at exit must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refuse(f"{error.filename or 'disk'}: {error.strerror or error}")
    return code if isinstance(code, int) else 0


def _refuse(message: str, code: int = 2) -> int:
    typer.echo(f"error: {message}", err=True)
    return code


def _usage_message(error: Any) -> str:  # noqa: ANN401 - click's class depends on typer's version
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "autoseg"
    return f"{message[0].lower()}{message[1:]} (see: {path} --help)"
