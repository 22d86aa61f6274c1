"""The dataset card of an export: what is in it, and how to make it again.

With it go a plot of how long examples are, and the recipe. Lengths are measured on the first
examples of the first shard, in tokens of the tokenizer that a run on this mix would train.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
import shlex
import statistics
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

import mixgen
from mixgen.cards import CARD_FILE, NAME, card_text, merged_card, naming, read_card
from mixgen.encoding.preview import render_example
from mixgen.encoding.renderer import Renderer
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.errors import OutputError
from mixgen.files import replace, write_whole
from mixgen.mixture.tables import features
from mixgen.publishing.plan import MIX, PLOT_FILE, RECIPE_FILE, Plan, config_of
from mixgen.tasks.base import Example

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LICENSE: Final = "apache-2.0"
COUNTED: Final = 2_000_000  # examples of a config, up to which its distinct problems are counted
MEASURED: Final = 2_000  # examples of each task; fewer if they are very long
MEASURED_CHARS: Final = 5_000_000
SHOWN_CHARS: Final = 5_000
STREAMING_BYTES: Final = 10**9  # bytes, from which on a card advises streaming
# The Hub's words for how many rows there are, and the number that each stays below.
SIZES: Final = {
    "n<1K": 10**3,
    "1K<n<10K": 10**4,
    "10K<n<100K": 10**5,
    "100K<n<1M": 10**6,
    "1M<n<10M": 10**7,
    "10M<n<100M": 10**8,
    "100M<n<1B": 10**9,
    "1B<n<10B": 10**10,
    "10B<n<100B": 10**11,
    "100B<n<1T": 10**12,
}
LARGEST_SIZE: Final = "n>1T"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What the card says of one task; lengths are in tokens, of whole examples."""

    name: str
    weight: float
    probability: float
    token_share: float
    lengths: list[int]
    example: str
    split_rule: str

    @property
    def mean(self) -> float:
        """Of an example."""
        return statistics.fmean(self.lengths)

    @property
    def p99(self) -> int:
        """What 99 % of the examples have at most."""
        return sorted(self.lengths)[math.ceil(0.99 * len(self.lengths)) - 1]

    @property
    def fence(self) -> str:
        """What stands around the example in Markdown: longer than any such run in it."""
        return "`" * max(3, 1 + max(map(len, re.findall("`+", self.example)), default=0))

    @property
    def longest(self) -> int:
        """Of all that were measured."""
        return max(self.lengths)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigFacts:
    """What is in the files of one dataset config, by split."""

    name: str
    num_examples: dict[str, int]
    num_bytes: dict[str, int]  # as files
    dataset_bytes: dict[str, int]  # without compression
    num_problems: dict[str, int | None]  # distinct ones; None if they are too many to count

    @property
    def splits(self) -> dict[str, int]:
        """How many examples each split has, without those that have none: `datasets` loads none."""
        return {split: number for split, number in self.num_examples.items() if number}


def write_card(plan: Plan, folder: Path, *, license: str | None = None) -> list[ConfigFacts]:
    """Writes the card, its plot and the recipe into the directory of a whole export.

    Args:
        plan: The export.
        folder: Its directory; what a person has written into the card there stays.
        license: The dataset's, as the Hub calls it; by default that of the card that is there,
            else `apache-2.0`, or none where rows are other people's (`hub:`).

    Returns:
        What is in the files of each dataset config.

    Raises:
        OutputError: A shard is missing or damaged, or the card that is there cannot be read.
    """
    configs = [_config_facts(plan, name, folder) for name in plan.configs]
    tasks, vocabulary = _task_facts(plan)
    plot = folder / f".{os.getpid()}.{PLOT_FILE}"  # jobs that end together may all write it
    _length_figure(tasks).savefig(plot, format="png", dpi=100, metadata={"Software": None})
    replace(plot, folder / PLOT_FILE)
    write_whole(folder / RECIPE_FILE, yaml.safe_dump(_recipe_of(plan), sort_keys=False))
    card = card_text(_header(plan, configs, license), _body(plan, configs, tasks, vocabulary))
    path = folder / CARD_FILE
    with naming(path):
        merged = merged_card(read_card(path), card, renewed={"license"} if license else ())
    write_whole(path, merged)
    return configs


def _body(
    plan: Plan,
    configs: list[ConfigFacts],
    tasks: list[TaskFacts],
    vocabulary: int,
) -> str:
    environment = Environment(
        loader=PackageLoader("mixgen.publishing"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        autoescape=False,  # Markdown
    )
    return environment.get_template("dataset_card.md.j2").render(
        name=NAME,
        tasks=tasks,
        configs=configs,
        splits=list(plan.splits),
        has_mix=MIX in plan.configs,
        distinct=plan.distinct,
        vocabulary=vocabulary,
        num_measured=MEASURED,
        is_big=sum(configs[0].num_bytes.values()) >= STREAMING_BYTES,
        task_files=[Path(file).name for file in plan.task_files],
        of_others=of_others(plan),
        version=mixgen.__version__,
        datasets_version=version("datasets"),
        command=command_of(plan),
    )


def _header(plan: Plan, configs: list[ConfigFacts], license: str | None) -> dict[str, Any]:
    """The YAML of the card, of which `load_dataset` and the viewer read `configs`."""
    from datasets import DatasetInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    infos = {
        config.name: DatasetInfo(
            features=features(),
            splits=[
                {"name": split, "num_bytes": config.dataset_bytes[split], "num_examples": number}
                for split, number in config.splits.items()
            ],
            download_size=sum(config.num_bytes.values()),
            dataset_size=sum(config.dataset_bytes.values()),
        )
        for config in configs
        if config.splits
    }
    data = DatasetCardData()
    DatasetInfosDict(infos).to_dataset_card_data(data)
    total = max(sum(config.num_examples.values()) for config in configs)
    if license is None and not of_others(plan):
        license = LICENSE
    return {
        **({"license": license} if license else {}),
        "task_categories": ["text-generation"],
        "tags": ["mixgen", "tool-use", "synthetic"],
        "size_categories": [
            next((name for name, end in SIZES.items() if total < end), LARGEST_SIZE)
        ],
        "configs": [
            {
                "config_name": config.name,
                **({"default": True} if number == 0 else {}),
                "data_files": [
                    {"split": split, "path": f"{config.name}/{split}-*"} for split in config.splits
                ],
            }
            for number, config in enumerate(configs)
            if config.splits
        ],
        "dataset_info": data["dataset_info"],
    }


def of_others(plan: Plan) -> list[str]:
    """Other people's datasets whose rows are in an export: their licences are not ours to name."""
    exported = [task.name for task in plan.mix().active if {MIX, task.name} & set(plan.configs)]
    return [name.removeprefix("hub:") for name in exported if name.startswith("hub:")]


def _config_facts(plan: Plan, name: str, folder: Path) -> ConfigFacts:
    facts = ConfigFacts(
        name=config_of(name),
        num_examples=dict.fromkeys(plan.splits, 0),
        num_bytes=dict.fromkeys(plan.splits, 0),
        dataset_bytes=dict.fromkeys(plan.splits, 0),
        num_problems=dict.fromkeys(plan.splits),
    )
    for shard in plan.shards():
        path = folder / plan.path(name, shard)
        try:
            metadata = pq.read_metadata(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise OutputError(
                f"{path} is missing or damaged: the same `mixgen export` writes it"
            ) from error
        facts.num_examples[shard.split] += metadata.num_rows
        facts.num_bytes[shard.split] += path.stat().st_size
        facts.dataset_bytes[shard.split] += sum(
            metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)
        )
    if sum(plan.splits.values()) <= COUNTED:
        facts.num_problems.update(
            {split: _count_problems(plan, name, split, folder) for split in plan.splits}
        )
    return facts


def _count_problems(plan: Plan, name: str, split: str, folder: Path) -> int:
    paths = [folder / plan.path(name, shard) for shard in plan.shards() if shard.split == split]
    table = pa.concat_tables([pq.read_table(path, columns=["task", "key"]) for path in paths])
    return len(pc.unique(pc.binary_join_element_wise(table["task"], table["key"], "|")))


def _task_facts(plan: Plan) -> tuple[list[TaskFacts], int]:
    """What the card says of each task, and how many tokens its tokenizer has."""
    mix = plan.mix()
    renderer = Renderer(train_tokenizer(mix.active, seed=plan.seed))
    split = next(iter(plan.splits))
    drawn = [
        list(_first(task.stream(split=split, seed=plan.seed, block="export-0")))
        for task in mix.active
    ]
    lengths = [[len(renderer.encode(one).input_ids) for one in examples] for examples in drawn]
    tokens = [
        probability * statistics.fmean(found)
        for probability, found in zip(mix.probabilities, lengths, strict=True)
    ]
    facts = [
        TaskFacts(
            name=task.name,
            weight=plan.weights[task.name],
            probability=mix.probabilities[number],
            token_share=tokens[number] / sum(tokens),
            lengths=lengths[number],
            example=_cut(render_example(drawn[number][0], renderer)),
            split_rule=task.split_rule,
        )
        for number, task in enumerate(mix.active)
        if MIX in plan.configs or task.name in plan.configs
    ]
    return facts, len(renderer.tokenizer)


def _first(stream: Iterator[Example]) -> Iterator[Example]:
    """The examples that are measured."""
    num_chars = 0
    for example in itertools.islice(stream, MEASURED):
        yield example
        num_chars += sum(len(message["content"]) for message in example["messages"])
        if num_chars > MEASURED_CHARS:
            return


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]} ..."


def _length_figure(tasks: list[TaskFacts]) -> Figure:
    """How many of each task's examples have how many tokens."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    longest = max(task.longest for task in tasks)
    edges = [longest * number / 60 for number in range(61)]
    for task in tasks:
        name = task.name[:40].replace("$", r"\$")  # else it is a formula
        axes.hist(task.lengths, bins=edges, histtype="stepfilled", alpha=0.3, label=name)
    axes.set(xlabel="tokens of an example", ylabel=f"examples, of up to {MEASURED:,}")
    axes.grid(alpha=0.2)
    axes.legend(fontsize="small")
    return figure


def _recipe_of(plan: Plan) -> dict[str, Any]:
    """The mix as the content of a recipe."""
    recipe: dict[str, Any] = {"weights": plan.weights}
    for name, settings in plan.settings.items():
        if given := {key: value for key, value in settings.items() if value is not None}:
            recipe[name] = given
    if plan.task_files:
        recipe["task_files"] = [Path(file).name for file in plan.task_files]
    return recipe


def command_of(plan: Plan) -> str:
    """What makes the same rows again, next to the recipe."""
    splits = ",".join(f"{split}={number}" for split, number in plan.splits.items())
    words = ["mixgen", "export", "--recipe", RECIPE_FILE, "--splits", splits]
    words += ["--seed", str(plan.seed), "--shard-examples", str(plan.shard_examples)]
    if plan.distinct:
        words += ["--distinct", ",".join(plan.distinct)]
    if plan.configs != [MIX, *plan.weights]:
        words += ["--configs", ",".join(plan.configs)]
    return shlex.join([*words, "--output", "DIR"])
