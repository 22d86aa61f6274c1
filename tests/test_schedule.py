"""Weights that change over training: exact at their step, and the same rows from anywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mixgen import RecipeError, configure_mix
from mixgen.encoding.rows import RowDataset
from mixgen.load import load_mixture
from mixgen.mixture.adaptive import AdaptiveConfig, AdaptiveSchedule, next_weights
from mixgen.mixture.schedule import Schedule, read_points
from mixgen.recipe import parse_recipe

CALCULATOR, TICTACTOE = 0, 1


def schedule_of(calculator, tictactoe, *, num_steps=1_000, linear=False) -> Schedule:
    return Schedule(
        tasks=configure_mix(calculator=1.0, tictactoe=1.0).tasks,
        points=(read_points("calculator", calculator), read_points("tictactoe", tictactoe)),
        num_steps=num_steps,
        linear=linear,
    )


def examples_of(row) -> np.ndarray:
    """How many examples of each task begin in a row."""
    return np.bincount(row.task_ids[(row.position_ids == 0) & (row.task_ids >= 0)], minlength=2)


@pytest.mark.parametrize(
    ("weight", "points"),
    [
        (0.5, ((0, 0.5),)),
        ("0.5", ((0, 0.5),)),
        ("0.2:0,0.5:500", ((0, 0.2), (500, 0.5))),
        ("0:0, 1:0.25", ((0, 0.0), (0.25, 1.0))),
        ({0: 0.2, 500: 0.5, 1000: 1.0}, ((0, 0.2), (500, 0.5), (1000, 1.0))),
        ({0: 1, 0.5: 0}, ((0, 1.0), (0.5, 0.0))),
    ],
)
def test_a_weight_is_a_number_or_numbers_by_where_they_begin(weight, points):
    assert read_points("tictactoe", weight) == points


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({0: 0.1, 500: 0.2, 400: 0.3}, "weight of tictactoe: 400 comes after 500; steps must asc"),
        ("0.1:0,0.2:500,0.3:500", "500 comes after 500"),
        ({0: 0.1, 0.5: 0.2, 0.4: 0.3}, "0.4 comes after 0.5"),
        ({0: 0.1, 500: -0.2}, "must be finite and not negative, got -0.2"),
        ({0: 0.1, 500: float("nan")}, "got nan"),
        ({0: 0.1, 500: True}, "must be a number, got True"),
        ({500: 1.0}, "weight of tictactoe must begin at step 0"),
        ({}, "must begin at step 0"),
        ({0: 0.1, 1.0: 1.0}, "from 1.0: a step is whole, a share of training is below 1"),
        ("0.1:0,0.5:1.0", "from 1.0: a step is whole"),
        ({0: 0.1, 2.5: 1.0}, "from 2.5: a step is whole, a share of training is below 1"),
        ({0: 0.1, "later": 1.0}, "must be given from a step, got 'later'"),
        ("0.1:0,0.5:soon", "must be given from a step, got 'soon'"),
        ("0.1:0,", "must be a number, got ''"),
        ("0.1:0,x:5", "must be a number, got 'x'"),
        ([0.1, 0.2], "must be a number, got \\[0.1, 0.2\\]"),
    ],
)
def test_a_bad_schedule_is_refused(weight, message):
    with pytest.raises(RecipeError, match=message):
        read_points("tictactoe", weight)


def test_a_step_at_which_all_weights_are_zero_is_refused_and_named():
    with pytest.raises(RecipeError, match=r"all task weights are zero.* at step 500"):
        schedule_of({0: 1.0, 500: 0.0, 600: 1.0}, 0.0)
    with pytest.raises(RecipeError, match="step 100 comes after step 500 in 1000 steps"):
        schedule_of(1.0, {0: 0.1, 500: 0.2, 0.1: 0.5})


def test_points_after_the_end_of_training_are_named():
    schedule = schedule_of(1.0, {0: 0.1, 500: 0.5, 1000: 1.0})
    assert schedule.unreached == ["tictactoe=1.0 from step 1,000"]
    assert schedule_of(1.0, {0: 0.1, 0.9: 0.5}).unreached == []


def test_steps_and_shares_of_training_say_when():
    schedule = schedule_of(1.0, {0: 0.0, 0.1: 0.5, 500: 1.0})
    found = {step: schedule.mix_at(step).weights for step in (0, 99, 100, 499, 500, 10**6)}
    assert found == {
        0: (1.0, 0.0),
        99: (1.0, 0.0),
        100: (1.0, 0.5),
        499: (1.0, 0.5),
        500: (1.0, 1.0),
        10**6: (1.0, 1.0),
    }
    assert [schedule.stage(step) for step in (0, 100, 499, 500)] == [
        (0, 100),
        (100, 500),
        (100, 500),
        (500, None),
    ]


def test_linear_weights_go_straight_from_one_point_to_the_next():
    schedule = schedule_of({0: 1.0, 200: 0.5}, {0: 0.0, 100: 1.0}, linear=True)
    for step, weights in ((0, (1.0, 0.0)), (50, (0.875, 0.5)), (100, (0.75, 1.0)), (300, (0.5, 1))):
        assert schedule.mix_at(step).weights == pytest.approx(weights)


def test_a_change_inside_a_block_comes_exactly_at_its_row(renderer):
    # Blocks of 16 rows, steps of 6: the change at step 4 comes at row 24, inside the second block.
    schedule = schedule_of(1.0, {0: 0.0, 4: 1.0})
    rows = RowDataset(schedule, renderer, num_rows=64, rows_per_step=6)
    assert rows.task_names == ["calculator", "tictactoe"]
    counts = np.array([examples_of(row) for row in rows])
    assert counts[:24, TICTACTOE].sum() == 0
    assert (counts[24:, TICTACTOE] > 0).all()
    assert (counts[:, CALCULATOR] > 0).all()
    blocks = {rows.block_of(row)[:2] for row in range(64)}
    assert blocks == {(0, 16), (16, 8), (24, 16), (40, 16), (56, 16)}
    real = np.mean([(row.task_ids >= 0).mean() for row in rows])
    assert real > 0.97


def test_rows_are_filled_so_that_no_mix_of_the_schedule_crops_much(renderer):
    # Games alone fit badly into rows of 256: what suits arithmetic would crop a tenth of them.
    schedule = schedule_of({0: 1.0, 10: 0.0}, {0: 0.0, 10: 1.0}, linear=True)
    rows = RowDataset(schedule, renderer, num_rows=160, rows_per_step=16, max_seq_len=256)
    ends = [int(row.input_ids[row.task_ids >= 0][-1]) for row in rows]
    whole = sum(end == renderer.special["<|assistant_end|>"] for end in ends)
    assert whole > 0.95 * len(ends)


@pytest.mark.parametrize("linear", [False, True])
def test_rows_of_a_schedule_are_pure_too(linear, renderer):
    schedule = schedule_of({0: 1.0, 6: 0.0}, {0: 0.0, 3: 0.5, 9: 1.0}, linear=linear)
    forward = list(RowDataset(schedule, renderer, num_rows=60, rows_per_step=6))
    for index in (59, 0, 35, 36, 17, 18, 53, 54):
        alone = RowDataset(schedule, renderer, num_rows=60, rows_per_step=6)
        alone.start_at(row=index - index % 6, step=index // 6)  # as a resumed run does
        for one, other in zip(forward[index], alone[index % 6], strict=True):
            assert (one == other).all()
    first = RowDataset(configure_mix(calculator=1.0), renderer, num_rows=16)
    if not linear:
        assert all((a.input_ids == b.input_ids).all() for a, b in zip(first, forward, strict=False))


def test_a_task_that_comes_later_changes_no_index_of_those_before(renderer):
    schedule = schedule_of({0: 0.0, 2: 1.0}, 1.0)
    rows = RowDataset(schedule, renderer, num_rows=32, rows_per_step=8)
    counts = np.array([examples_of(row) for row in rows])
    assert counts[:16, CALCULATOR].sum() == 0 and (counts[:16, TICTACTOE] > 0).all()
    assert (counts[16:] > 0).any(axis=0).all()


@pytest.mark.parametrize("linear", [False, True])
def test_share_of_each_range_of_steps_is_what_its_weights_say(linear, renderer):
    schedule = schedule_of(1.0, {0: 0.25, 50: 1.0, 100: 4.0}, num_steps=150, linear=linear)
    rows = RowDataset(schedule, renderer, num_rows=150 * 16, rows_per_step=16, max_seq_len=512)
    counts = np.array([examples_of(row) for row in rows]).reshape(150, 16, 2).sum(axis=1)
    for start, end in ((0, 25), (25, 50), (50, 75), (75, 100), (100, 150)):
        drawn = counts[start:end]
        expected = np.array([schedule.mix_at(step).probabilities for step in range(start, end)])
        means = (expected * drawn.sum(axis=1, keepdims=True)).sum(axis=0)
        spread = math.sqrt((expected.prod(axis=1) * drawn.sum(axis=1)).sum())
        assert drawn.sum() > 1_000
        assert abs(drawn[:, TICTACTOE].sum() - means[TICTACTOE]) < 3.2905 * spread


def test_recipe_and_flag_say_the_same_schedule(tmp_path):
    recipe = tmp_path / "gradual.yaml"
    recipe.write_text(
        "weights: {calculator: 1.0, tictactoe: {0: 0.2, 500: 0.5, 0.9: 1.0}}\nmax_steps: 1000\n"
        f"output_dir: {tmp_path}/run\nuse_cpu: true\n"
    )
    by_recipe = parse_recipe([str(recipe)])
    words = ["--max_steps=1000", f"--output_dir={tmp_path}/run", "--use_cpu"]
    by_flags = parse_recipe(["--calc_weight=1.0", "--ttt_weight=0.2:0,0.5:500,1:0.9", *words])
    assert str(by_recipe.schedule) == str(by_flags.schedule)
    assert str(by_recipe.schedule) == (
        "calculator=1.0, tictactoe=0.2 (0.5 from step 500, 1.0 from step 900)"
    )
    assert by_recipe.resolved == by_flags.resolved
    assert by_recipe.resolved["weights"]["tictactoe"] == {0: 0.2, 500: 0.5, 0.9: 1.0}
    linear = parse_recipe([str(recipe), "--weight_interpolation=linear"]).schedule
    assert linear.mix_at(250).weights[TICTACTOE] == pytest.approx(0.35)
    with pytest.raises(RecipeError, match="weight of tictactoe is a schedule, and a stream has no"):
        load_mixture(recipe)
    with pytest.raises(RecipeError, match=r"command line: all task weights are zero .* at step 7"):
        parse_recipe([str(recipe), "--calc_weight=0", "--ttt_weight=1:0,0:7"])


# --- weights that adapt ---


def adaptive_of(**settings) -> AdaptiveSchedule:
    mix = configure_mix(calculator=1.0, tictactoe=1.0)
    points = tuple(((0, weight),) for weight in mix.weights)
    config = AdaptiveConfig(**{"every": 4, "rate": 1.0, "smoothing": 0.1, **settings})
    return AdaptiveSchedule(tasks=mix.tasks, points=points, num_steps=40, config=config)


def decide(schedule, step, **losses) -> None:
    schedule.decide(schedule.stage_after(step), schedule.weights_after(step, losses))


def test_the_task_with_the_higher_loss_is_drawn_more_and_none_dies_out():
    weights = [0.5, 0.5]
    for _ in range(50):
        weights = next_weights(weights, [1.0, 0.5], rate=1.0, smoothing=0.1)
        assert math.fsum(weights) == pytest.approx(1.0, abs=2e-4)
    assert 0.85 < weights[0] < 0.95 - 1e-9 and weights[1] > 0.05
    assert next_weights([0.5, 0.5], [1.0, 1.0], rate=1.0, smoothing=0.1) == [0.5, 0.5]
    assert next_weights([0.2, 0.8], [5000.0, None], rate=1.0, smoothing=0.0) == [0.2, 0.8]
    assert next_weights([0.5, 0.5], [5000.0, 0.0], rate=1.0, smoothing=0.2) == [0.9, 0.1]


def test_a_decision_is_in_force_from_the_stage_after_the_next_one_on(renderer):
    schedule = adaptive_of()
    rows = RowDataset(schedule, renderer, num_rows=40 * 8, rows_per_step=8)
    before = [rows[index] for index in range(8 * 8)]
    with pytest.raises(RuntimeError, match="step 8 are drawn before they are decided"):
        rows[8 * 8]
    decide(schedule, 4, calculator=3.0, tictactoe=1.0)
    assert schedule.mix_at(7).weights == (1.0, 1.0)
    assert schedule.mix_at(8).weights == pytest.approx((0.8427, 0.1573))
    counts = sum(examples_of(rows[index]) for index in range(64, 96))
    assert counts[CALCULATOR] > 4 * counts[TICTACTOE]
    again = RowDataset(schedule, renderer, num_rows=40 * 8, rows_per_step=8)
    assert all((again[i].input_ids == row.input_ids).all() for i, row in enumerate(before))


def test_data_loader_workers_see_what_is_decided_while_they_run(renderer):
    schedule = adaptive_of(every=8)
    rows = RowDataset(schedule, renderer, num_rows=24 * 4, rows_per_step=4, max_seq_len=512)
    loader = iter(DataLoader(rows, batch_size=4, num_workers=2, collate_fn=lambda batch: batch))
    seen = [next(loader) for _ in range(8)]  # both workers run, and are ahead by two batches each
    decide(schedule, 8, calculator=0.0, tictactoe=100.0)
    seen += loader
    counts = np.array([sum(examples_of(row) for row in batch) for batch in seen])
    assert counts.shape == (24, 2)
    assert (counts[:16, CALCULATOR] > 0).all()
    assert counts[16:, CALCULATOR].sum() < 0.15 * counts[16:].sum()


def test_decisions_are_taken_up_where_they_were(renderer):
    schedule = adaptive_of()
    decide(schedule, 4, calculator=3.0, tictactoe=1.0)
    other = adaptive_of()
    other.load_state_dict(schedule.state_dict(), step=6)
    assert [other.mix_at(step).weights for step in range(12)] == [
        schedule.mix_at(step).weights for step in range(12)
    ]
    other = adaptive_of(every=2)
    other.load_state_dict(schedule.state_dict(), step=8)
    assert [other.mix_at(step).weights for step in range(10)] == [
        schedule.mix_at(step).weights for step in range(10)
    ]
    late = adaptive_of()  # as when a run without adaptive weights goes on with them
    late.load_state_dict({}, step=30)
    assert late.mix_at(35).weights == (1.0, 1.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--adaptive=often"], "adaptive must be true or a mapping, got 'often'"),
        (["--adaptive={every: 10"], "adaptive must be true or a mapping, got '{every: 10'"),
        (["--adaptive", '{"evry": 10}'], "adaptive: unknown key 'evry': did you mean 'every'"),
        (["--adaptive", '{"every": 0}'], "every must be a whole number, at least 1, got 0"),
        (["--adaptive", '{"rate": "a"}'], "rate must be a number, at least 0 and at most 100"),
        (["--adaptive", '{"smoothing": 2}'], "at least 0 and at most 1, got 2"),
        (["--adaptive=true", "--ttt_weight=0:0,1:5"], "adaptive weights begin with one number"),
        (["--adaptive=true", "--weight_interpolation=linear"], "leave linear out"),
    ],
)
def test_adaptive_settings_are_checked(words, message, tmp_path):
    words = [f"--output_dir={tmp_path}", "--use_cpu", "--max_steps=50", *words]
    with pytest.raises(RecipeError, match=message):
        parse_recipe(words, {"calculator": 1.0, "tictactoe": 0.5})


def test_adaptive_settings_come_from_a_recipe_too(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("adaptive: {every: 20}\nmax_steps: 50\nuse_cpu: true\n")
    found = parse_recipe([str(recipe)], {"calculator": 1.0, "tictactoe": 0.5})
    assert found.resolved["adaptive"] == {"every": 20, "rate": 0.2, "smoothing": 0.1}
    assert isinstance(found.schedule, AdaptiveSchedule)
    assert found.schedule.starts == [0, 20, 40]
    for word in ("false", "null"):
        recipe.write_text(f"adaptive: {word}\nmax_steps: 50\nuse_cpu: true\n")
        found = parse_recipe([str(recipe)], {"calculator": 1.0, "tictactoe": 0.5})
        assert type(found.schedule) is Schedule and "adaptive" not in found.resolved


def test_shares_are_named_by_a_weight_that_evens_them_out(renderer):
    from mixgen.training.mix_callback import even_weight

    weights = {"calculator": 0.1, "tictactoe": 1.0}

    def trained_tokens(weights) -> dict[str, float]:
        rows = RowDataset(configure_mix(**weights), renderer, num_rows=1600)
        labels = np.concatenate([row.task_ids[row.labels != -100] for row in rows])
        return dict(zip(sorted(weights), np.bincount(labels).tolist(), strict=True))

    name, share, weight = even_weight(trained_tokens(weights), weights)
    assert name == "tictactoe" and share > 0.9
    after = trained_tokens({**weights, "tictactoe": weight})
    assert after["tictactoe"] / sum(after.values()) == pytest.approx(0.5, abs=0.03)


def test_no_share_dominates_alone():
    from mixgen.training.mix_callback import even_weight

    assert even_weight({"calculator": 9.0}, {"calculator": 1.0})[1] == 0.0
    assert even_weight({"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0})[1] == 0.0
    assert even_weight({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0}) == ("b", pytest.approx(2 / 3), 1)
