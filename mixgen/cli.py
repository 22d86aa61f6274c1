"""The `mixgen` command: tasks, mixes, datasets and trained models, from a terminal."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Final

import typer

from mixgen.commands import authoring, chat, datasets, evaluate, mix, tasks
from mixgen.errors import MixgenError, printable
from mixgen.launch import USER_ERROR

# Tasks have flags of their own.
ANY_FLAG: Final = {"allow_extra_args": True, "ignore_unknown_options": True}

# `--num_examples` as run_train.py has it, and `--num-examples`.
BOTH_SPELLINGS: Final = {"token_normalize_func": lambda name: name.replace("_", "-")}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command("tasks")(tasks.tasks)
app.command("preview", context_settings=ANY_FLAG)(tasks.preview)
app.command("mix", context_settings=ANY_FLAG)(mix.mix)
app.command("validate", context_settings=BOTH_SPELLINGS | ANY_FLAG)(authoring.validate)
app.command("new-task")(authoring.new_task)
app.command("export", context_settings=ANY_FLAG)(datasets.export)
app.command("push-dataset", context_settings=BOTH_SPELLINGS)(datasets.push_dataset)
app.command("eval", context_settings=BOTH_SPELLINGS)(evaluate.evaluate)
app.command("chat", context_settings=BOTH_SPELLINGS)(chat.chat)
app.command("report")(evaluate.report)


@app.callback(invoke_without_command=True)
def version(
    shown: Annotated[bool, typer.Option("--version", help="Print the version, and leave.")] = False,
) -> None:
    """Language models trained on generated tasks: try them, compare runs, publish datasets."""
    if shown:
        import mixgen

        print(mixgen.__version__)
        raise typer.Exit


def main() -> int:
    """Runs one command; a user's mistake ends in one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a model may write what they cannot
    if not sys.stderr.isatty():  # a library's bar would come as hundreds of lines
        for library in ("HF_HUB", "HF_DATASETS"):
            os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    try:
        app(standalone_mode=True)
    except MixgenError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr, flush=True)
        return USER_ERROR
    except OSError as error:
        where = error.filename or "the output"
        print(f"error: {where}: {error.strerror or error}", file=sys.stderr, flush=True)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
