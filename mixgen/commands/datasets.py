"""The commands of `mixgen` for datasets: export, and push to the Hub."""

from __future__ import annotations

import math
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mixgen.cards import CARD_FILE
from mixgen.commands.arguments import check_flags
from mixgen.commands.console import say
from mixgen.errors import OutputError, RecipeError
from mixgen.launch import INTERRUPTED

if TYPE_CHECKING:
    from mixgen.load import TokenConfig
    from mixgen.mixture.weights import Mix

EXAMPLE: Final = (
    "mixgen export --recipe recipes/default.yaml --num-examples 100_000 --output data/default"
)
DIGITS: Final = 5 * "[0-9]"
HELD_OUT_PART: Final = 100  # validation and test have a hundredth of the examples each


def export(
    context: typer.Context,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Weights and task settings; --calc_weight=2 and the like win over it."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The export's directory.")] = None,
    num_examples: Annotated[
        int | None,
        typer.Option(
            "--num-examples",
            "--num_examples",
            min=1,
            help="Number of training examples of the mix.",
        ),
    ] = None,
    num_tokens: Annotated[
        int | None,
        typer.Option(
            "--num-tokens",
            "--num_tokens",
            min=1,
            help="Approximate number of training tokens, instead of --num-examples.",
        ),
    ] = None,
    splits: Annotated[
        str,
        typer.Option(
            help="Splits to write; test=5000 gives one its number of examples. Without a number, "
            "validation and test have a hundredth of train's."
        ),
    ] = "train,validation,test",
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of every random draw; by default the recipe's, else 42."),
    ] = None,
    configs: Annotated[
        str | None,
        typer.Option(help="Dataset configs to write: mix and tasks; by default mix and each task."),
    ] = None,
    distinct: Annotated[
        str,
        typer.Option(
            help="Tasks none of whose problems comes twice in a split; such a split is written by "
            "one process."
        ),
    ] = "",
    num_proc: Annotated[
        int, typer.Option("--num-proc", "--num_proc", min=1, help="Number of processes.")
    ] = 1,
    shard: Annotated[
        str, typer.Option(help="I/N: write the part of job I of N, from 0 on (array jobs).")
    ] = "0/1",
    shard_examples: Annotated[
        int | None,
        typer.Option(
            "--shard-examples", "--shard_examples", min=1, help="Examples in a shard: 50,000."
        ),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(help="Licence identifier of the Hub, such as mit; by default apache-2.0."),
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Write the plan alone, for other machines' jobs.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the export that is there.")
    ] = False,
) -> None:
    """Write a mix as Parquet: a dataset config for each task and one for the mix.

    Example: mixgen export --recipe recipes/default.yaml --num-examples 100_000 --output data
    """
    if recipe is None or output is None:
        missing = "--recipe" if recipe is None else "--output"
        raise RecipeError(f"{missing} is missing, as in: {EXAMPLE}")
    part = _part(shard)
    if overwrite and part != (0, 1):
        raise RecipeError("--overwrite would delete other jobs' work: run it once with --plan-only")
    if license is not None and not re.fullmatch(r"[a-z0-9.+-]+", license):
        raise RecipeError(f"--license must be an identifier such as mit or cc-by-4.0: {license!r}")
    if num_examples is not None and num_tokens is not None:
        raise RecipeError("give --num-examples or --num-tokens, not both")
    say("Loading ...")

    from mixgen.load import mix_of_recipe, token_config
    from mixgen.publishing.dataset_card import of_others, write_card
    from mixgen.publishing.export import delete_shards, missing_shards, num_units, run_export
    from mixgen.publishing.plan import SHARD_EXAMPLES, make_plan, save_plan
    from mixgen.recipe import known_tasks, read_recipe

    tasks, task_files = known_tasks(read_recipe(recipe), recipe, context.args)
    check_flags(context, tasks, hint=": --recipe names the recipe")
    mix = mix_of_recipe(recipe, context.args)
    token_settings = token_config(recipe, seed)
    if num_tokens is not None:
        num_examples = _examples_for(num_tokens, mix, token_settings)
    plan = make_plan(
        mix,
        splits=_split_sizes(splits, num_examples),
        seed=token_settings.seed,
        task_files=[str(file) for file in task_files],
        shard_examples=shard_examples or SHARD_EXAMPLES,
        distinct=_names(distinct),
        configs=None if configs is None else _names(configs),
    )
    if overwrite:
        delete_shards(output)
    save_plan(plan, output, overwrite=overwrite)
    if plan_only:
        print(f"{output} is planned, in {num_units(plan):,} pieces that need no other.")
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_export(output, num_proc=num_proc, part=part, show_progress=True)
        if num_missing := missing_shards(plan, output):
            print(f"This part of {output} is written; to be written by others: {num_missing:,}.")
            return
        facts = write_card(plan, output, license=license)
    except KeyboardInterrupt:
        say(f"Stopped. The same command goes on in {output}.")
        raise typer.Exit(INTERRUPTED) from None
    for config in facts:
        counts = [f"{number:,} {split}" for split, number in config.num_examples.items()]
        print(f"{config.name}: {', '.join(counts)} ({sum(config.num_bytes.values()):,} bytes)")
    if license is None and of_others(plan):
        say("Rows of other datasets have licences of their own: --license names one in the card.")
    print(f"Done. {output / CARD_FILE} tells of it.")


def push_dataset(
    folder: Annotated[Path, typer.Argument(help="The directory of an export.")],
    name: Annotated[str, typer.Argument(help="The repository: user/name, or a name of your own.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private, if it is made.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="The branch; it is made if it is missing.")
    ] = None,
) -> None:
    """Push an export to the Hub, in one commit; what is there already is not sent again.

    The token is that of `hf auth login`, or HF_TOKEN. Of a card that is there, what people wrote
    stays, and so do other dataset configs.

    Example: mixgen push-dataset data/default user/name --private
    """
    from mixgen.publishing.export import missing_shards
    from mixgen.publishing.hub import push_folder, push_summary
    from mixgen.publishing.plan import CARD_FILES, config_of, read_plan
    from mixgen.tasks.base import SPLITS

    plan = read_plan(folder)
    num_missing = missing_shards(plan, folder)
    if num_missing or not all((folder / file).is_file() for file in CARD_FILES):
        what = f"missing shards: {num_missing:,}" if num_missing else "it has no card yet"
        raise OutputError(f"{folder} is no whole export ({what}): the same `mixgen export` goes on")
    files = [str(plan.path(config, shard)) for config in plan.configs for shard in plan.shards()]
    try:
        pushed = push_folder(
            folder,
            [*files, *sorted(CARD_FILES - {CARD_FILE})],
            name,
            repo_type="dataset",
            message=f"Upload {', '.join(plan.configs)}, made by mixgen",
            private=private or None,
            revision=revision,
            delete_patterns=[
                f"{config_of(config)}/{split}-{DIGITS}-of-{DIGITS}.parquet"
                for config in plan.configs
                for split in SPLITS
            ],
            say=say,
        )
    except KeyboardInterrupt:
        say("Stopped. The same command goes on.")
        raise typer.Exit(INTERRUPTED) from None
    print(push_summary(pushed))


def _part(text: str) -> tuple[int, int]:
    """A job of an array, such as `3/16`."""
    found = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if found and int(found[1]) < int(found[2]):
        return int(found[1]), int(found[2])
    raise RecipeError(f"--shard must be I/N with I from 0 to N - 1, such as 3/16, got {text!r}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _split_sizes(text: str, num_examples: int | None) -> dict[str, int]:
    """How many examples each split has: those of `test=5000`, else by `num_examples`."""
    given: dict[str, int | None] = {}
    for word in _names(text):
        name, equals, number = word.partition("=")
        if equals and not re.fullmatch(r"\d+(_\d+)*", number, re.ASCII):
            raise RecipeError(f"--splits: {name} needs a whole number of examples, got {number!r}")
        given[name] = int(number) if equals else None
    if num_examples is None:
        if None in given.values():
            raise RecipeError("how much? --num-examples, --num-tokens, or --splits train=5000")
        num_examples = 0
    held_out = max(num_examples // HELD_OUT_PART, 1) if "train" in given else num_examples
    sizes = {name: num_examples if name == "train" else held_out for name in given}
    return {name: sizes[name] if number is None else number for name, number in given.items()}


def _examples_for(num_tokens: int, mix: Mix, config: TokenConfig) -> int:
    """How many examples of a mix have so many tokens, about."""
    from mixgen.encoding.renderer import Renderer
    from mixgen.encoding.shares import measure_shares
    from mixgen.load import tokenizer_for

    renderer = Renderer(tokenizer_for(mix.active, config))
    shares = measure_shares(mix, renderer, seed=config.seed)
    return math.ceil(num_tokens / sum(share.probability * share.mean_tokens for share in shares))
