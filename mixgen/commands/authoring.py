"""The commands of `mixgen` for writing tasks: begin one, and hold one to the contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mixgen.commands.arguments import AsJson, complete_task, is_recipe, tasks_of
from mixgen.commands.console import make_console, print_records, say, watching
from mixgen.errors import OutputError, TaskError

if TYPE_CHECKING:
    from rich.text import Text

    from mixgen.validation.contract import Finding

STYLES: Final = {"ok": "green", "doubt": "yellow", "fault": "bold red"}


def validate(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            help="A task file, a task, or a recipe, whose tasks are checked with its settings.",
            metavar="FILE|TASK|RECIPE",
            autocompletion=complete_task,
        ),
    ],
    max_seq_len: Annotated[
        int | None,
        typer.Option(
            "--max-seq-len", min=1, help="Tokens of a row; by default the recipe's, else 1,024."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a task to the contract; exits with 1 if it breaks it. Takes the task's flags.

    Example: mixgen validate my_task.py --max-seq-len 256
    """
    from rich.text import Text

    from mixgen.load import token_config
    from mixgen.validation.contract import DOUBT, FAULT
    from mixgen.validation.contract import validate as findings_of

    console = make_console()
    found: list[Finding] = []
    with watching() as begin:
        begin(f"loading {what}")
        chosen, files = tasks_of(what, context)
        config = token_config(Path(what) if is_recipe(what) else None)
        for task in chosen:
            if not as_json:
                console.print(Text(f"{task.name}", style="bold"))
            say("Drawing examples ...")
            for finding in findings_of(
                task,
                max_seq_len=max_seq_len or config.max_seq_len,
                vocab_size=config.vocab_size,
                task_files=files,
                begin=begin,
            ):
                found.append(finding)
                if as_json:
                    print_records([{"task": task.name, **finding._asdict()}], as_json=True)
                else:
                    console.print(_line(finding))
    faults = sum(finding.status == FAULT for finding in found)
    doubts = sum(finding.status == DOUBT for finding in found)
    if not as_json:
        verdict = f"Faults: {faults}" if faults else "The contract holds"
        console.print(f"{verdict}{f'; doubts: {doubts}' if doubts else ''}.")
    if faults:
        raise typer.Exit(1)


def _line(finding: Finding) -> Text:
    from rich.text import Text

    line = Text(f"  {finding.status:5}  ", style=STYLES[finding.status])
    return line.append(f"{finding.check:18} {finding.words}", style="default")


def new_task(
    name: Annotated[str, typer.Argument(help="Its name, in recipes, logs and datasets.")],
    output: Annotated[
        Path | None, typer.Option(help="The file; by default NAME.py in the current directory.")
    ] = None,
) -> None:
    """Write a task file to begin with: complete, documented, and holding the contract.

    Example: mixgen new-task letters
    """
    import keyword
    import re
    import sys

    from jinja2 import Environment, PackageLoader, StrictUndefined

    from mixgen.tasks.registry import registered_tasks

    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name) or name[0] == "_":
        near = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
        hint = f": did you mean {near!r}?" if near.isidentifier() and near != name else ""
        raise TaskError(
            "a task's name must be a Python identifier of ASCII letters without _ in front, "
            f"got {name!r}{hint}"
        )
    if name in sys.stdlib_module_names:  # `import random` would find it instead
        raise TaskError(f"{name!r} is a module of Python's own: choose another name")
    if name in _recipe_keys():
        raise TaskError(f"{name!r} is a key of recipes: choose another name")
    for cls in registered_tasks().values():
        if name in (cls.name, cls.flag):
            raise TaskError(f"{name!r} is the name or flag of a task that there is: choose another")
    path = output or Path(f"{name}.py")
    if path.suffix != ".py":
        raise OutputError(f"{path} cannot be written: its name must end in .py")
    environment = Environment(
        loader=PackageLoader("mixgen.commands"),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
    )
    class_name = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
    text = environment.get_template("task.py.j2").render(name=name, class_name=class_name)
    try:
        with path.open("x", encoding="utf-8") as file:  # never over another
            file.write(text)
    except FileExistsError as error:
        raise OutputError(f"{path} is there already: --output names another file") from error
    except OSError as error:
        missing = "" if path.parent.exists() else f" (there is no folder {path.parent})"
        raise OutputError(f"{path} cannot be written: {error.strerror}{missing}") from error
    print(f"Written to {path}. Then: mixgen validate {path}; mixgen preview {path}")


def _recipe_keys() -> set[str]:
    """The keys of a recipe that are no task's."""
    import dataclasses

    from mixgen.flags import WEIGHTS
    from mixgen.training.config import MixConfig

    return {WEIGHTS, *(field.name for field in dataclasses.fields(MixConfig))}
