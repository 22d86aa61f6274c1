"""Recipes and the command line: what is shipped works, and who wins when two disagree."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from example_task import TASK

from mixgen import RecipeError
from mixgen.encoding.renderer import Renderer
from mixgen.encoding.rows import RowDataset
from mixgen.encoding.shares import check_lengths, measure_shares
from mixgen.encoding.tokenizer import train_tokenizer
from mixgen.load import load_mixture
from mixgen.recipe import parse_recipe, read_recipe
from mixgen.training.trainer import collate

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
CONSTANTS = {"calculator": 1.0, "tictactoe": 0.5}


def test_gradual_tictactoe_is_the_quickstart_but_for_the_weights():
    names = ("quickstart", "gradual_tictactoe")
    read = [yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text()) for name in names]
    quickstart, gradual = [{**recipe, "weights": None} for recipe in read]
    assert gradual == quickstart


def parse(*argv: object, constants: dict[str, float] | None = None):
    return parse_recipe([str(word) for word in argv], constants or CONSTANTS)


def weights_of(recipe) -> dict[str, float]:
    return {
        task.name: weight
        for task, weight in zip(
            recipe.schedule.tasks, recipe.schedule.mix_at(0).weights, strict=True
        )
    }


def test_the_promised_recipes_are_there():
    assert {path.stem for path in RECIPES} >= {
        "default",
        "calculator_only",
        "tictactoe_only",
        "equal_mix",
        "heavy_tictactoe",
        "quickstart",
        "gpt2_finetune",
    }


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_makes_a_batch(path):
    recipe = parse(path, "--use_cpu")
    config = recipe.config
    assert recipe.name == path.stem
    assert config.output_dir == f"outputs/{path.stem}"
    renderer = Renderer(train_tokenizer(recipe.schedule.active, seed=1, examples_per_task=200))
    check_lengths(measure_shares(recipe.schedule, renderer, num_examples=200), config.max_seq_len)
    rows = RowDataset(
        recipe.schedule,
        renderer,
        num_rows=2,
        max_seq_len=config.max_seq_len,
        rows_per_block=config.rows_per_block,
    )
    batch = collate([rows[0], rows[1]])
    assert batch["input_ids"].shape == (2, config.max_seq_len)
    if len(recipe.schedule.starts) == 1:  # a stream has no steps for a schedule to change at
        assert load_mixture(path).features is not None


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("default", (1.0, 0.5)),
        ("equal_mix", (1.0, 1.0)),
        ("heavy_tictactoe", (0.2, 1.0)),
        ("calculator_only", (1.0, 0.0)),
        ("tictactoe_only", (0.0, 1.0)),
    ],
)
def test_recipes_mix_what_their_names_say(name, weights):
    recipe = parse(ROOT / f"recipes/{name}.yaml")
    assert weights_of(recipe) == dict(zip(("calculator", "tictactoe"), weights, strict=True))
    assert len(recipe.schedule.active) == sum(weight > 0 for weight in weights)


@pytest.mark.parametrize(
    "path",
    [ROOT / "accelerate_config.yaml", *sorted((ROOT / "recipes/accelerate").glob("*.yaml"))],
    ids=lambda p: p.stem,
)
def test_every_accelerate_config_loads(path):
    assert load_config_from_file(str(path)).num_processes >= 1


def test_accelerate_config_is_one_machine_with_8_gpus_in_bf16():
    config = load_config_from_file(str(ROOT / "accelerate_config.yaml"))
    assert (config.num_machines, config.num_processes, config.mixed_precision) == (1, 8, "bf16")
    assert {path.stem for path in (ROOT / "recipes/accelerate").glob("*.yaml")} >= {
        "cpu",
        "multi_node",
        "fsdp",
    }


def test_command_line_wins_over_recipe_and_recipe_over_constants(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("weights: {calculator: 2.0, tictactoe: 3.0}\ndepth: 5\nlearning_rate: 1e-4\n")
    assert weights_of(parse()) == CONSTANTS
    assert weights_of(parse(path)) == {"calculator": 2.0, "tictactoe": 3.0}
    both = parse(path, "--calc_weight=0.3", "--depth", "7")
    assert weights_of(both) == {"calculator": 0.3, "tictactoe": 3.0}
    assert (both.config.depth, both.config.learning_rate) == (7, 1e-4)
    assert weights_of(parse("--ttt_weight=0")) == {"calculator": 1.0, "tictactoe": 0.0}


def test_a_recipes_weights_replace_the_constants_as_a_whole(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("weights: {calculator: 2.0}\n")
    assert weights_of(parse(path)) == {"calculator": 2.0}
    path.write_text("depth: 3\n")
    assert weights_of(parse(path)) == CONSTANTS


def test_task_settings_come_from_recipe_and_flags(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "calculator: {max_depth: 2, functions: [], operators: ['-', '+']}\n"
        "tictactoe: {random_ties: true}\n"
    )
    calculator, tictactoe = parse(
        path, "--calc_max_digits=2", "--ttt_user_optimal_rate=1"
    ).schedule.tasks
    assert (calculator.config.max_depth, calculator.config.max_digits) == (2, 2)
    assert (calculator.config.functions, calculator.config.operators) == ([], ["-", "+"])
    assert (tictactoe.config.random_ties, tictactoe.config.user_optimal_rate) == (True, 1.0)


def test_a_bare_double_dash_is_accepted():
    recipe = parse("--", "--depth=20", "--calc_weight=1.0", "--ttt_weight=0.0")
    assert recipe.config.depth == 20
    assert [task.name for task in recipe.schedule.active] == ["calculator"]


def test_steps_on_the_command_line_replace_a_token_budget_in_the_recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train_tokens: 6_000_000\nmax_seq_len: 512\n")
    assert parse(path, "--max_steps=3").config.max_steps == 3
    with pytest.raises(RecipeError, match="both set the length"):
        parse(path, "--max_steps=3", "--train_tokens=100")


def test_resolved_recipe_makes_the_same_run_again(tmp_path):
    first = parse(
        ROOT / "recipes/quickstart.yaml", "--calc_weight=0.3", "--seed=7", "--warmup_steps=5"
    )
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(first.resolved))
    again = parse(path)
    assert weights_of(again) == weights_of(first)
    assert [task.config for task in again.schedule.tasks] == [
        task.config for task in first.schedule.tasks
    ]
    assert again.resolved == first.resolved
    differing = {
        key
        for key, value in first.config.to_dict().items()
        if value != again.config.to_dict()[key]
        and key not in ("output_dir", "run_name", "logging_dir")
    }
    assert not differing


def test_what_is_meant_for_one_start_is_not_repeated_by_the_resolved_recipe():
    recipe = parse(ROOT / "recipes/quickstart.yaml", "--resume_anyway", "--resume")
    assert not {"overwrite", "resume", "resume_anyway"} & recipe.resolved.keys()
    assert "overwrite" not in parse(ROOT / "recipes/quickstart.yaml", "--overwrite").resolved


def test_a_default_that_is_given_is_the_same_run():
    path = ROOT / "recipes/quickstart.yaml"
    given = parse(path, "--seed=42", "--adam_epsilon=1e-8", "--max_grad_norm=1")
    assert given.resolved == parse(path).resolved
    assert parse(path, "--seed=43").resolved["seed"] == 43


def test_resolved_recipe_holds_no_token(monkeypatch):
    recipe = parse("--hub_token=hf_secret", "--depth=2")
    assert "hf_secret" not in json.dumps(recipe.resolved)
    assert recipe.config.hub_token == "hf_secret"


def test_task_files_add_tasks_with_flags_settings_and_weight(tmp_path):
    (tmp_path / "parity.py").write_text(TASK.replace("NAME", "parity_a").replace("FLAG", "par_a"))
    path = tmp_path / "mine.yaml"
    path.write_text(
        "task_files: [parity.py]\n"
        "weights: {parity_a: 1.0, calculator: 1.0}\n"
        "parity_a: {largest: 9}\n"
    )
    recipe = parse(path, "--par_a_weight=0.2")
    assert weights_of(recipe) == {"calculator": 1.0, "parity_a": 0.2}
    assert recipe.schedule.tasks[1].config.largest == 9
    assert recipe.resolved["task_files"] == [str(tmp_path / "parity.py")]


def test_a_known_task_changes_no_run_that_does_not_name_it(tmp_path):
    (tmp_path / "parity.py").write_text(TASK.replace("NAME", "parity_b").replace("FLAG", "par_b"))
    recipe = parse("--task_files", tmp_path / "parity.py")
    assert weights_of(recipe) == CONSTANTS


def test_a_task_whose_flags_collide_is_refused(tmp_path):
    source = TASK.replace("NAME", "collider").replace("FLAG", "max").replace("largest", "steps")
    (tmp_path / "collider.py").write_text(source)
    from mixgen.errors import TaskError
    from mixgen.tasks import registry

    try:
        with pytest.raises(TaskError, match="task 'collider' cannot have flag 'max'"):
            parse("--task_files", tmp_path / "collider.py")
    finally:
        registry._REGISTRY.pop("collider", None)


def test_read_recipe_needs_a_mapping(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(RecipeError, match="must be a mapping"):
        read_recipe(path)


def test_a_task_named_like_a_recipes_key_is_refused(tmp_path):
    from mixgen.errors import TaskError
    from mixgen.tasks import registry

    (tmp_path / "named.py").write_text(TASK.replace("NAME", "depth").replace("FLAG", "deep"))
    try:
        with pytest.raises(TaskError, match="task 'depth' has the name of a recipe's key"):
            parse("--task_files", tmp_path / "named.py")
    finally:
        registry._REGISTRY.pop("depth", None)


@pytest.mark.parametrize(("name", "flag"), [("_odd", "odd"), ("odd", "_odd"), ("o-d", "odd")])
def test_a_name_that_no_flag_or_legend_shows_is_refused(name, flag, tmp_path):
    from mixgen.errors import TaskError

    (tmp_path / "odd.py").write_text(TASK.replace("NAME", name).replace("FLAG", flag))
    with pytest.raises(TaskError, match="must be a Python identifier without _ in front"):
        parse("--task_files", tmp_path / "odd.py")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("weight: float = 1.0", "not called 'weight'"),
        ("table: dict = dataclasses.field(default_factory=dict)", "setting 'table' must be an int"),
        ("size: int", "Config\\(\\) must work without arguments"),
        ("size: Missing = 3", "NameError"),
    ],
)
def test_a_setting_that_can_be_no_flag_is_refused(setting, message, tmp_path):
    from mixgen.errors import TaskError

    source = TASK.replace("NAME", "odd").replace("FLAG", "odd")
    source = "from __future__ import annotations\n" + source
    (tmp_path / "odd.py").write_text(source.replace("largest: int = 99_999", setting))
    with pytest.raises(TaskError, match=message):
        parse("--task_files", tmp_path / "odd.py")


def test_all_kinds_of_settings_become_flags(tmp_path):
    from mixgen.tasks import registry

    settings = (
        'size: int = dataclasses.field(default=3, metadata={"help": "50 % of it"})\n'
        '        kind: Literal["a", "b"] = "a"\n'
        "        limit: int | None = None\n"
        "        names: list[str] = dataclasses.field(default_factory=list)"
    )
    source = TASK.replace("NAME", "kinds").replace("FLAG", "knd")
    source = "from typing import Literal\n" + source.replace("largest: int = 99_999", settings)
    (tmp_path / "kinds.py").write_text(source)
    try:
        words = ["--task_files", tmp_path / "kinds.py", "--knd_weight=1", "--knd_kind=b"]
        recipe = parse(*words, "--knd_names", "x", "y", "--knd_limit=4")
        config = recipe.schedule.tasks[1].config
        assert (config.size, config.kind, config.limit, config.names) == (3, "b", 4, ["x", "y"])
        with pytest.raises(SystemExit, match="0"):
            parse(*words, "--help")
    finally:
        registry._REGISTRY.pop("kinds", None)


def test_tokens_elsewhere_have_the_defaults_of_a_run():
    from mixgen.load import TokenConfig
    from mixgen.training.config import MixConfig

    defaults = {field.name: field.default for field in dataclasses.fields(MixConfig)}
    for field in dataclasses.fields(TokenConfig):
        assert field.default == defaults[field.name], field.name
