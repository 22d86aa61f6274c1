"""Packed rows: full, pure, and of examples that do not see each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from mixgen import MixConfig, RecipeError, configure_mix
from mixgen.encoding.packing import draw_block, pack
from mixgen.encoding.renderer import IGNORED, Encoded
from mixgen.encoding.rows import RowDataset
from mixgen.encoding.shares import check_lengths, measure_shares
from mixgen.mixture.sources import block_examples
from mixgen.training.model import build_model
from mixgen.training.trainer import collate


def rows_of(mix, renderer, num_rows=64, **settings) -> RowDataset:
    return RowDataset(mix, renderer, num_rows=num_rows, **settings)


def encoded(token: int, length: int) -> Encoded:
    ids = np.full(length, token, dtype=np.int32)
    return Encoded(ids, ids)


@pytest.mark.parametrize("weights", [(1.0, 0.5), (1.0, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_at_least_98_percent_of_row_tokens_are_real(weights, renderer):
    dataset = rows_of(
        configure_mix(calculator=weights[0], tictactoe=weights[1]), renderer, num_rows=640
    )
    real = np.mean([(row.task_ids >= 0).mean() for row in dataset])
    assert 0.98 <= real <= 1.0


@pytest.mark.parametrize(
    ("weights", "max_seq_len", "rows_per_block"),
    [((1.0, 0.5), 1024, 16), ((0.0, 1.0), 256, 16), ((0.0, 1.0), 384, 32), ((0.2, 1.0), 512, 16)],
)
def test_next_to_nothing_is_cropped_whatever_the_lengths(
    weights, max_seq_len, rows_per_block, renderer
):
    mix = configure_mix(calculator=weights[0], tictactoe=weights[1])
    settings = {"max_seq_len": max_seq_len, "rows_per_block": rows_per_block}
    dataset = rows_of(mix, renderer, num_rows=960, **settings)
    real = sum(int((row.task_ids >= 0).sum()) for row in dataset)
    blocks = 960 // rows_per_block
    drawn = sum(
        len(example.input_ids)
        for block in (dataset.block_of(index * rows_per_block) for index in range(blocks))
        for _, example in dataset._draw(
            block.mix, block.first_row, block.fill * rows_per_block * max_seq_len
        )
    )
    assert drawn - real <= 2e-3 * drawn
    assert drawn > 0.5 * 960 * max_seq_len


def test_a_block_holds_its_examples_whole(mix, renderer):
    drawn = draw_block(
        ((task, renderer.encode(e)) for task, e in block_examples(mix, seed=42, block=0)),
        num_tokens=0.985 * 16 * 1024,
    )
    rows = list(itertools.islice(rows_of(mix, renderer), 16))
    found = []
    for row in rows:
        assert all(array.shape == (1024,) and array.dtype == np.int32 for array in row)
        starts = [
            *np.flatnonzero((row.position_ids == 0) & (row.task_ids >= 0)),
            int((row.task_ids >= 0).sum()),
        ]
        assert (row.task_ids[starts[-1] :] == -1).all()
        assert (row.labels[starts[-1] :] == IGNORED).all()
        assert (row.position_ids[starts[-1] :] == 0).all()
        for start, end in itertools.pairwise(starts):
            assert row.position_ids[start:end].tolist() == list(range(end - start))
            (task,) = set(row.task_ids[start:end].tolist())
            found.append((task, row.input_ids[start:end].tolist(), row.labels[start:end].tolist()))
    assert sorted(found) == sorted(
        (task, e.input_ids.tolist(), e.labels.tolist()) for task, e in drawn
    )
    assert len(found) > 100


def test_rows_of_a_block_carry_more_of_the_same_blend_than_examples_in_their_order(mix, renderer):
    rows = RowDataset(mix, renderer, num_rows=24 * 16)
    packed = np.array([(row.task_ids == 1).mean() for row in rows]).reshape(24, 16)
    plain = []
    for block in range(24):
        tasks: list[int] = []
        for task, example in block_examples(mix, block=16 * block):
            tasks += [task] * len(renderer.encode(example).input_ids)
            if len(tasks) >= 16 * 1024:
                break
        plain.append(np.array(tasks[: 16 * 1024]).reshape(16, 1024).mean(axis=1))
    assert packed.std(axis=1).mean() < 0.75 * np.array(plain).std(axis=1).mean()


def test_an_example_that_fits_nowhere_is_cropped_at_the_end_of_its_row():
    examples = [
        (0, encoded(1, 7)),
        (1, encoded(2, 5)),
        (0, encoded(3, 5)),
    ]
    rows = pack(examples, num_rows=2, max_seq_len=8, pad_token_id=9)
    assert [row.input_ids.tolist() for row in rows] == [[1] * 7 + [9], [2] * 5 + [3] * 3]
    assert [row.position_ids.tolist() for row in rows] == [[*range(7), 0], [0, 1, 2, 3, 4, 0, 1, 2]]
    assert [row.task_ids.tolist() for row in rows] == [[0] * 7 + [-1], [1] * 5 + [0] * 3]
    assert [row.labels.tolist() for row in rows] == [[1] * 7 + [IGNORED], [2] * 5 + [3] * 3]


def test_overfull_rows_swap_instead_of_cropping():
    lengths = [
        6,
        5,
        4,
        3,
        3,
        3,
    ]  # 24 tokens in two rows of 12: the emptiest-row rule alone gives 6+4+3 and 5+3+3
    rows = pack(
        [(0, encoded(n, n)) for n in lengths],
        num_rows=2,
        max_seq_len=12,
        pad_token_id=0,
    )
    assert sorted(token for row in rows for token in row.input_ids.tolist()) == sorted(
        n for n in lengths for _ in range(n)
    )


def test_tasks_share_examples_by_their_weight_whatever_their_lengths(renderer):
    mix = configure_mix(calculator=1.0, tictactoe=1.0)
    rows = rows_of(mix, renderer, num_rows=3_200)
    starts = sum(
        np.bincount(row.task_ids[(row.position_ids == 0) & (row.task_ids >= 0)], minlength=2)
        for row in rows
    )
    assert starts.sum() > 20_000
    assert abs(starts[0] / starts.sum() - 0.5) < 3.2905 * 0.5 / np.sqrt(starts.sum())


def test_a_row_is_a_pure_function_of_its_number(mix, renderer):
    forward = list(rows_of(mix, renderer))
    scattered = rows_of(mix, renderer)
    for index in (63, 0, 17, 16, 15, 40, 0):
        for one, other in zip(forward[index], scattered[index], strict=True):
            assert (one == other).all()
    far = RowDataset(mix, renderer, num_rows=10**9 + 1)
    assert (far[10**9].position_ids == 0).sum() > 1
    assert not (rows_of(mix, renderer, seed=43)[0].input_ids == forward[0].input_ids).all()


def test_rows_outside_the_dataset_do_not_exist(mix, renderer):
    rows = rows_of(mix, renderer)
    for index in (-1, 64):
        with pytest.raises(IndexError):
            rows[index]
    assert len(list(rows)) == 64


def test_reading_rows_in_order_makes_each_block_once(mix, renderer, monkeypatch):
    made = []
    make = RowDataset.make_block
    monkeypatch.setattr(
        RowDataset, "make_block", lambda self, block: made.append(block) or make(self, block)
    )
    list(rows_of(mix, renderer))
    assert [block.first_row for block in made] == [0, 16, 32, 48]


@pytest.mark.parametrize("use_cache", [False, True])
def test_an_examples_logits_do_not_depend_on_its_neighbours_in_the_row(
    use_cache, mix, renderer, tokenizer, tmp_path
):
    config = MixConfig(
        depth=2,
        aspect_ratio=32,
        head_dim=32,
        max_seq_len=512,
        output_dir=str(tmp_path),
        use_cpu=True,
    )
    model = build_model(config, tokenizer).eval()
    row = rows_of(mix, renderer, max_seq_len=512)[3]
    batch = collate([row])
    with torch.no_grad():
        packed = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=use_cache
        ).logits[0]
        starts = [
            *np.flatnonzero((row.position_ids == 0) & (row.task_ids >= 0)),
            int((row.task_ids >= 0).sum()),
        ]
        assert len(starts) > 3
        differences = [
            (model(input_ids=batch["input_ids"][:, a:b]).logits[0] - packed[a:b]).abs().max().item()
            for a, b in itertools.pairwise(starts)
        ]
    if use_cache:  # with a cache, transformers builds no mask from the positions
        assert max(differences) > 0.1
    else:
        assert max(differences) < 1e-4


def test_shares_by_examples_and_tokens_are_measured(mix, renderer):
    calculator, tictactoe = measure_shares(mix, renderer)
    assert (calculator.name, calculator.probability) == ("calculator", pytest.approx(2 / 3))
    assert calculator.token_share + tictactoe.token_share == pytest.approx(1)
    rows = list(itertools.islice(rows_of(mix, renderer, num_rows=1600), 1600))
    measured = sum((row.task_ids == 1).sum() for row in rows) / sum(
        (row.task_ids >= 0).sum() for row in rows
    )
    assert tictactoe.token_share == pytest.approx(measured, abs=0.015)
    assert tictactoe.max_tokens <= 150


def test_a_row_too_short_for_a_task_is_refused_with_the_length_needed(mix, renderer):
    shares = measure_shares(mix, renderer)
    check_lengths(shares, 1024)
    with pytest.raises(
        RecipeError, match=r"max_seq_len 100 is too short for task 'tictactoe'.* 14\d tokens"
    ):
        check_lengths(shares[1:], 100)
