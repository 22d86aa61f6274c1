"""Tic-tac-toe over 100,000 games, held to a referee, a minimax, a reader and a storyteller here.

Nothing here takes the value of a position from `mixgen`: the board is a tuple of nine signs,
symmetries are turns and mirrors of its rows, and values are win 1, draw 0, loss -1 for the side to
move.
"""

from __future__ import annotations

import copy
import itertools
import math
import random
import re
from collections import Counter, defaultdict
from fractions import Fraction
from functools import cache
from hashlib import blake2b
from typing import NamedTuple

import pytest

from mixgen.errors import TaskError
from mixgen.seeding import rng
from mixgen.tasks._tictactoe_tree import canonical_board, canonical_game, game_tree, position_split
from mixgen.tasks.base import assistant, call, tool, user
from mixgen.tasks.tictactoe import TicTacToe
from mixgen.tools.board import EMPTY_BOARD, place, render, render_lines, result, to_move

NUM_GAMES = 100_000
Z_999 = 3.2905
CELL_NAMES = [
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
]
ROWS = [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
THREES = [*ROWS, *zip(*ROWS, strict=True), (0, 4, 8), (2, 4, 6)]
EMPTY = (".",) * 9

# An independent referee.


@cache
def ending(board):
    """ "X wins", "O wins", "Draw" or, for a game that goes on, None."""
    for three in THREES:
        for mark in "XO":
            if all(board[cell] == mark for cell in three):
                return f"{mark} wins"
    return None if "." in board else "Draw"


@cache
def mover(board):
    return "XO"[(9 - board.count(".")) % 2]


@cache
def moves_of(board):
    return () if ending(board) else tuple(cell for cell in range(9) if board[cell] == ".")


@cache
def after(board, cell):
    assert board[cell] == "."
    return (*board[:cell], mover(board), *board[cell + 1 :])


@cache
def value(board):
    """The game's value for the side to move, by plain minimax."""
    if ending(board):
        return 0 if ending(board) == "Draw" else -1
    return max(-value(after(board, cell)) for cell in moves_of(board))


@cache
def optimal(board):
    return tuple(cell for cell in moves_of(board) if -value(after(board, cell)) == value(board))


@cache
def speed(board):
    """The value for the side to move, larger the sooner a win comes and the later a loss does."""
    if ending(board):
        return 0 if ending(board) == "Draw" else -1 - board.count(".")
    return max(-speed(after(board, cell)) for cell in moves_of(board))


@cache
def soonest(board):
    """The optimal moves without those that win later or lose sooner than they must."""
    return tuple(cell for cell in optimal(board) if -speed(after(board, cell)) == speed(board))


@cache
def preferred(board):
    """The soonest moves that do best against random replies."""
    hopes = {cell: hope(after(board, cell), mover(board)) for cell in soonest(board)}
    return tuple(cell for cell in hopes if hopes[cell] == max(hopes.values()))


def policy(board):
    """What the assistant plays by default: it opens on any cell."""
    return soonest(board) if board == EMPTY else preferred(board)


@cache
def hope(board, mark):
    """The mean result for a mark that plays as preferred, against random replies."""
    if outcome := ending(board):
        return Fraction(0 if outcome == "Draw" else 1 if outcome == f"{mark} wins" else -1)
    if mover(board) == mark:
        return hope(after(board, preferred(board)[0]), mark)
    replies = [hope(after(board, cell), mark) for cell in moves_of(board)]
    return sum(replies) / len(replies)


@cache
def wins_at_once(board):
    return tuple(
        cell for cell in moves_of(board) if ending(after(board, cell)) == f"{mover(board)} wins"
    )


@cache
def threats(board):
    """The cells that would win at once for the side that is not to move."""
    theirs = "XO"[mover(board) == "X"]
    return tuple(
        cell
        for cell in moves_of(board)
        if ending((*board[:cell], theirs, *board[cell + 1 :])) == f"{theirs} wins"
    )


@cache
def images(board):
    """The eight boards that are this one turned and mirrored."""
    found = []
    rows = [board[:3], board[3:6], board[6:]]
    for _ in range(4):
        rows = [list(column) for column in zip(*rows[::-1], strict=True)]
        found += [sum(map(tuple, rows), ()), sum((tuple(row[::-1]) for row in rows), ())]
    return found


@cache
def canonical(board):
    return min("".join(image) for image in images(board))


@cache
def held_out(board):
    """The split that a position with the assistant to move asks for, by its hash."""
    if 9 - board.count(".") < 3:
        return "train"
    digest = blake2b(f"tictactoe|{canonical(board)}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return "test" if share < 0.1 else "validation" if share < 0.2 else "train"


def path_of(moves, opening=EMPTY):
    """The boards before each move and after the last one."""
    boards = [opening]
    for cell in moves:
        assert cell in moves_of(boards[-1]), (moves, boards[-1])
        boards.append(after(boards[-1], cell))
    return boards


@cache
def all_positions():
    found = {EMPTY}
    layer = {EMPTY}
    while layer:
        layer = {after(board, cell) for board in layer for cell in moves_of(board)}
        found |= layer
    return found


def printed(board):
    text = "".join(board)
    return f"{text[:3]}\n{text[3:6]}\n{text[6:]}\n{ending(board) or ''}"


def printed_lines(board):
    rows = [board[:3], board[3:6], board[6:]]
    lines = [*rows, *zip(*rows, strict=True), board[::4], board[2:7:2]]
    return "\n".join([*map("".join, lines), ending(board) or ""])


# An independent storyteller and an independent reader.


def told(first_words, moves, *, last_words=None):
    """The conversation of a game, with the outputs of the task's own tool."""
    opening = board_shown(first_words)
    mark = mover(opening)
    session = TicTacToe().tools()
    messages = [user(first_words)]

    def add_call(*statements):
        code = "\n".join(statements)
        messages.extend((call(code), tool(session.call("python", {"code": code}))))

    add_call(*row_statements(opening), "print(board.lines)")
    path = path_of(moves, opening)
    for board, cell in zip(path, moves, strict=False):
        if mover(board) != mark:
            messages.append(user(CELL_NAMES[cell]))
        shown = "print(board)" if mover(board) == mark else "print(board.lines)"
        add_call(statement(mover(board), cell), shown)
        words = [f"I play {CELL_NAMES[cell]}."] if mover(board) == mark else []
        if ending(after(board, cell)):
            words.append(last_words or verdict_of(mark, ending(path[-1])))
        if words:
            messages.append(assistant(" ".join(words)))
    return messages


def verdict_of(mark, outcome):
    return {"Draw": "Draw.", f"{mark} wins": "I win."}.get(outcome, "You win.")


def board_shown(first_words):
    """The board in the user's first words."""
    rows = re.fullmatch(r".*\. .*:\n([XO.]{3})\n([XO.]{3})\n([XO.]{3})\n", first_words)
    return tuple("".join(rows.groups()))


def calls_read(turns):
    """What each call of a conversation puts down before it prints, statement by statement."""
    found = []
    for _, _, _, calls in turns:
        for _, _, (_, code) in calls:
            *statements, last = code.split("\n")
            assert last in ("print(board)", "print(board.lines)")
            found.append(statements)
    return found


def statement(sign, cell):
    return f"board[{cell // 3}][{cell % 3}]='{sign}'"


def row_statements(board):
    text = "".join(board)
    return [f"board[0]='{text[:3]}'", f"board[1]='{text[3:6]}'", f"board[2]='{text[6:]}'"]


def first_words_of(example):
    return example["messages"][0]["content"]


def num_stones(board):
    return 9 - board.count(".")


def within_999(count, total, share):
    return abs(count - total * share) <= Z_999 * math.sqrt(total * share * (1 - share))


class Played(NamedTuple):
    """What distinguishes an example, hashable."""

    turns: tuple
    mark: str
    opening: tuple
    moves: tuple
    outcome: str
    split: str
    key: str
    answer: str
    difficulty: int


def frozen_turns(messages):
    return tuple(
        (
            message["role"],
            message["content"],
            message["name"],
            tuple(
                (made["type"], made["function"]["name"], *made["function"]["arguments"].items())
                for made in message["tool_calls"]
            ),
        )
        for message in messages
    )


def frozen(example):
    facts = example["metadata"]
    return Played(
        frozen_turns(example["messages"]),
        facts["assistant"],
        tuple(facts["opening"]),
        tuple(facts["moves"]),
        facts["result"],
        example["split"],
        example["key"],
        example["answer"],
        example["difficulty"],
    )


def play(count, name, **settings):
    """The distinct games among `count` draws, with how often each came."""
    task = TicTacToe(TicTacToe.Config(**settings))
    generator = rng(0, "test tictactoe", name)
    return Counter(frozen(task.sample(generator)) for _ in range(count))


@pytest.fixture(scope="module")
def games():
    return play(NUM_GAMES // 2, "default") + play(NUM_GAMES // 2, "ties", random_ties=True)


@pytest.fixture(scope="module")
def default_games():
    return play(20_000, "default only")


@pytest.fixture(scope="module")
def examples():
    """Distinct default and random-ties games; both marks, all results, set-ups and none."""
    found = {}
    for random_ties in (False, True):
        task = TicTacToe(TicTacToe.Config(random_ties=random_ties))
        generator = rng(0, "test tictactoe", "examples")
        for _ in range(600):
            example = task.sample(generator)
            found.setdefault(frozen(example)[:4], example)
    assert len(found) > 400
    kinds = Counter(is_set_up(frozen(example)) for example in found.values())
    assert min(kinds[True], kinds[False]) > 100
    return list(found.values())


def is_set_up(game):
    return num_stones(game.opening) >= 2


def assistant_turns(game):
    """Each position with the assistant to move in a game, and the move."""
    pairs = zip(path_of(game.moves, game.opening), game.moves, strict=False)
    return [(board, cell) for board, cell in pairs if mover(board) == game.mark]


# Facts about the game, on mixgen's own functions.


def walk_mixgen(board=EMPTY_BOARD, moves=()):
    """Every sequence of moves to an end, by mixgen's own board functions."""
    if result(board):
        yield moves
        return
    for cell in range(9):
        if board[cell] == ".":
            yield from walk_mixgen(place(board, cell, to_move(board)), (*moves, cell))


def test_full_enumeration_counts_255168_games_and_31896_up_to_symmetry():
    count = 0
    spellings = set()
    for moves in walk_mixgen():
        count += 1
        spellings.add(canonical_game(EMPTY_BOARD, moves))
    assert count == 255_168
    assert len(spellings) == 31_896


def mixgen_positions():
    found = {EMPTY_BOARD}
    layer = {EMPTY_BOARD}
    while layer:
        layer = {
            place(board, cell, to_move(board))
            for board in layer
            if not result(board)
            for cell in range(9)
            if board[cell] == "."
        }
        found |= layer
    return found


def test_there_are_5478_positions_of_which_4520_unfinished_and_765_up_to_symmetry():
    positions = mixgen_positions()
    assert positions == {"".join(board) for board in all_positions()}
    assert len(positions) == 5478
    assert len({canonical_board(board) for board in positions}) == 765
    unfinished = [board for board in positions if not result(board)]
    assert len(unfinished) == 4520
    for mark, count, distinct in (("X", 2423, 338), ("O", 2097, 289)):
        waiting = [board for board in unfinished if to_move(board) == mark]
        assert len(waiting) == count
        assert len({canonical_board(board) for board in waiting}) == distinct


def test_every_position_is_shown_judged_and_turned_as_an_independent_referee_does():
    for board in all_positions():
        text = "".join(board)
        assert result(text) == (ending(board) or "")
        assert render(text) == printed(board)
        assert render_lines(text) == printed_lines(board)
        assert canonical_board(text) == canonical(board)
        assert position_split(text) == held_out(board)
        if not ending(board):
            assert to_move(text) == mover(board)
        for image in images(board):
            assert canonical_board("".join(image)) == canonical_board(text)


def test_the_game_tree_has_the_values_and_moves_of_an_independent_minimax():
    tree = game_tree()
    assert len(tree) == 4520
    slow = undecided = 0
    for text, position in tree.items():
        board = tuple(text)
        assert position.value == value(board)
        assert position.legal == moves_of(board)
        assert position.optimal == optimal(board)
        assert position.best == soonest(board)
        assert position.preferred == preferred(board)
        undecided += 1 < len(position.preferred) < len(position.best)
        assert position.wins == wins_at_once(board)
        assert position.blocks == threats(board)
        assert position.split == held_out(board)
        for cell in range(9):
            expected = "".join(after(board, cell)) if cell in moves_of(board) else ""
            assert position.boards[cell] == expected
        slow += len(position.optimal) > len(position.best)
    assert slow > 500
    assert undecided > 100


# Every game of 100,000.


def test_every_tool_message_is_what_the_tool_prints_and_shows_the_true_board(games):
    assert games.total() == NUM_GAMES
    for game in games:
        session = TicTacToe().tools()
        boards = path_of(game.moves, game.opening)
        shown = []
        for (role, _, _, calls), (next_role, content, name, _) in itertools.pairwise(game.turns):
            if not calls:
                assert next_role != "tool"
                continue
            ((kind, tool_name, (argument, code)),) = calls
            assert (role, next_role, name) == ("assistant", "tool", "python")
            assert (kind, tool_name, argument) == ("function", "python", "code")
            assert session.call("python", {"code": code}) == content
            shown.append(content)
        right = [
            printed(board) if at and mover(boards[at - 1]) == game.mark else printed_lines(board)
            for at, board in enumerate(boards)
        ]
        assert shown == right, game
        assert "".join(boards[-1]) == session.board


def test_the_first_call_sets_the_board_that_is_shown_and_each_other_puts_down_one_stone(games):
    for game in games:
        path = path_of(game.moves, game.opening)
        stones = [[statement(mover(path[at]), cell)] for at, cell in enumerate(game.moves)]
        assert calls_read(game.turns) == [row_statements(game.opening), *stones]


def test_every_conversation_tells_its_game_truthfully_move_by_move(games):
    for game in games:
        assert game.turns == frozen_turns(told(game.turns[0][1], game.moves))


def test_the_opening_shows_the_board_and_says_whose_the_assistants_mark_is(games):
    openings = {"X": set(), "O": set()}
    for game in games:
        first_words = game.turns[0][1]
        assert board_shown(first_words) == game.opening
        assert mover(game.opening) == game.mark
        words = first_words.split(":\n")[0]
        openings[game.mark].add(words)
        assert words.endswith(f" {game.mark}")
    assert [len(wordings) for wordings in openings.values()] == [3, 3]


def test_every_game_is_played_to_its_end_and_tool_and_last_words_state_the_result(games):
    endings = Counter()
    for turns, mark, opening, moves, outcome, _, _, answer, difficulty in games:
        assert ending(path_of(moves, opening)[-1]) == outcome
        verdict = verdict_of(mark, outcome)
        assert turns[-2][1].split("\n")[-1] == outcome
        assert turns[-1][0] == "assistant"
        assert turns[-1][1] in (verdict, f"I play {CELL_NAMES[moves[-1]]}. {verdict}")
        assert answer == verdict
        assert difficulty == len(moves)
        for _, content, _, _ in turns[:-1]:
            assert not any(word in content for word in ("Draw.", "win."))
        endings[mark, verdict] += 1
    assert set(endings) == set(itertools.product("XO", ("I win.", "Draw.")))


def test_every_assistant_move_is_minimax_optimal(games):
    checked = 0
    for game in games:
        for board, cell in assistant_turns(game):
            assert cell in optimal(board), (board, cell)
            checked += len(optimal(board)) < len(moves_of(board))
    assert checked > 1000


def test_the_assistant_takes_every_immediate_win_and_never_loses(games):
    taken = 0
    for game in games:
        assert game.outcome in ("Draw", f"{game.mark} wins")
        for board, cell in assistant_turns(game):
            if wins_at_once(board):
                assert cell in wins_at_once(board), (board, cell)
                taken += 1
    assert taken > 1000


def test_the_default_assistant_opens_anywhere_and_plays_what_does_best_against_random_replies(
    default_games,
):
    found = defaultdict(Counter)
    for game, count in default_games.items():
        for board, cell in assistant_turns(game):
            found[board][cell] += count
    fewer = first = last = 0
    expected = variance = 0.0
    for board, cells in found.items():
        options = policy(board)
        assert set(cells) <= set(options)
        fewer += len(options) < len(soonest(board))
        if len(options) > 1:
            first += cells[options[0]]
            last += cells[options[-1]]
            expected += cells.total() / len(options)
            variance += cells.total() * (1 - 1 / len(options)) / len(options)
    assert set(found[EMPTY]) == set(range(9))
    assert fewer > 50
    assert variance > 200
    for count in (first, last):
        assert abs(count - expected) <= Z_999 * math.sqrt(variance), (count, expected)


def test_an_optimal_user_plays_every_soonest_move():
    found = defaultdict(Counter)
    for game, count in play(20_000, "optimal users", user_optimal_rate=1.0).items():
        for board, cell in zip(path_of(game.moves, game.opening), game.moves, strict=False):
            if mover(board) != game.mark:
                found[board][cell] += count
    often = {board: set(cells) for board, cells in found.items() if cells.total() >= 100}
    assert all(cells == set(soonest(board)) for board, cells in often.items())
    assert any(cells > set(preferred(board)) for board, cells in often.items())


def test_random_ties_plays_several_optimal_moves_in_one_position():
    found = {}
    for game in play(20_000, "several", random_ties=True):
        for board, cell in assistant_turns(game):
            found.setdefault(board, set()).add(cell)
    assert found[EMPTY] == set(range(9))
    several = [board for board in found if len(found[board]) > 1]
    assert len(several) > 300


def test_the_assistant_starts_as_often_as_asked():
    for rate in (0.0, 0.2, 0.5, 1.0):
        drawn = play(4000, "starts", assistant_starts_rate=rate)
        started = sum(count for game, count in drawn.items() if game.mark == "X")
        assert within_999(started, 4000, rate)


def test_the_users_share_of_optimal_moves_is_what_is_asked():
    for rate in (0.0, 0.5, 1.0):
        drawn = play(6000, "users", user_optimal_rate=rate, assistant_starts_rate=0.0)
        expected = variance = good = 0.0
        for game, count in drawn.items():
            path = path_of(game.moves, game.opening)
            for board, cell in zip(path, game.moves, strict=False):
                best = soonest(board)
                if mover(board) == game.mark or len(best) == len(moves_of(board)):
                    continue
                share = rate + (1 - rate) * len(best) / len(moves_of(board))
                expected += count * share
                variance += count * share * (1 - share)
                good += count * (cell in best)
        assert variance or rate == 1
        assert abs(good - expected) <= Z_999 * math.sqrt(variance) + 1e-6, (rate, good, expected)


def outcome_shares(mark, policy, start=EMPTY):
    """Exact shares of (assistant wins, draw, user wins) against uniformly random moves."""

    @cache
    def shares(board):
        if ending(board):
            return tuple(
                float(ending(board) == outcome)
                for outcome in (f"{mark} wins", "Draw", f"{theirs} wins")
            )
        cells = policy(board) if mover(board) == mark else moves_of(board)
        below = [shares(after(board, cell)) for cell in cells]
        return tuple(sum(share) / len(below) for share in zip(*below, strict=True))

    theirs = "XO"[mark == "X"]
    return shares(start)


def random_users(mark):
    starts = float(mark == "X")
    return {"user_optimal_rate": 0.0, "set_up_rate": 0.0, "assistant_starts_rate": starts}


@pytest.mark.parametrize(
    ("mark", "stated"), [("O", (0.7775, 0.2225, 0.0)), ("X", (0.968, 0.032, 0.0))]
)
def test_random_users_lose_and_draw_as_often_as_the_whole_tree_says(mark, stated):
    exact = outcome_shares(mark, soonest)
    assert exact == pytest.approx(stated, abs=5e-4)
    drawn = play(30_000, "random users", random_ties=True, **random_users(mark))
    for outcome, share in ((f"{mark} wins", exact[0]), ("Draw", exact[1])):
        count = sum(times for game, times in drawn.items() if game.outcome == outcome)
        assert within_999(count, 30_000, share), (outcome, count)


@pytest.mark.parametrize("mark", ["X", "O"])
def test_random_users_fare_as_the_whole_tree_says_against_the_default_assistant(mark):
    drawn = play(30_000, "default", **random_users(mark))
    exact = outcome_shares(mark, policy)
    assert exact[2] == 0
    assert exact[0] > outcome_shares(mark, soonest)[0]
    for outcome, share in zip((f"{mark} wins", "Draw"), exact, strict=False):
        count = sum(times for game, times in drawn.items() if game.outcome == outcome)
        assert within_999(count, 30_000, share), (outcome, count, share)


def test_random_users_fare_from_each_set_up_as_the_tree_below_it_says():
    drawn = play(30_000, "from set-ups", user_optimal_rate=0.0, set_up_rate=1.0, random_ties=True)
    shares = {}
    expected = variance = won = 0.0
    for game, count in drawn.items():
        if game.opening not in shares:
            shares[game.opening] = outcome_shares(game.mark, soonest, game.opening)
        win, _, loss = shares[game.opening]
        assert loss == 0
        expected += count * win
        variance += count * win * (1 - win)
        won += count * (game.outcome == f"{game.mark} wins")
    assert variance > 1000
    assert abs(won - expected) <= Z_999 * math.sqrt(variance), (won, expected)


def test_an_optimal_user_always_draws():
    drawn = play(5000, "optimal", user_optimal_rate=1.0, set_up_rate=0.0)
    assert {game.outcome for game in drawn} == {"Draw"}


def test_an_optimal_user_gets_from_a_set_up_what_the_position_is_worth():
    drawn = play(5000, "optimal", user_optimal_rate=1.0, set_up_rate=1.0)
    endings = Counter()
    for game in drawn:
        worth = value(game.opening)
        assert game.outcome == {1: f"{game.mark} wins", 0: "Draw"}[worth]
        endings[game.outcome] += 1
    assert set(endings) == {"Draw", "X wins", "O wins"}


@pytest.mark.parametrize("key", ["assistant_starts_rate", "user_optimal_rate", "set_up_rate"])
@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_a_rate_outside_0_to_1_is_an_error_that_names_it(key, bad):
    with pytest.raises(TaskError, match=rf"\b{key}\b"):
        TicTacToe.Config(**{key: bad})


# Games that go on from some stones.


@pytest.fixture(scope="module")
def set_ups():
    """Distinct games from set-ups, of both marks and all splits."""
    found = list(play(20_000, "set-ups", set_up_rate=1.0))
    assert len(found) > 5000
    assert {(game.mark, game.split) for game in found} == set(
        itertools.product("XO", ("train", "validation", "test"))
    )
    return found


def test_the_defaults_are_those_that_the_quickstart_was_measured_with():
    config = TicTacToe.Config()
    assert (config.assistant_starts_rate, config.set_up_rate) == (0.5, 0.5)
    assert (config.user_optimal_rate, config.random_ties) == (0.7, False)


def test_as_many_games_are_set_up_as_asked():
    for rate in (0.0, 0.3, 0.5, 1.0):
        drawn = play(18_000, "set-up rate", set_up_rate=rate)
        count = sum(times for game, times in drawn.items() if is_set_up(game))
        spread = math.sqrt(18_000 * rate * (1 - rate))
        assert abs(count - 18_000 * rate) <= 4 * spread, (rate, count)


def test_set_ups_are_wins_blocks_and_others_as_often_and_each_number_of_stones_of_a_kind():
    drawn = play(60_000, "cover", set_up_rate=1.0)
    counts = Counter()
    for game, times in drawn.items():
        counts[game.opening] += times
    groups = {}
    for board in all_positions():
        if not ending(board) and board.count(".") <= 7 and value(board) >= 0:
            kind = 0 if wins_at_once(board) else 1 if threats(board) else 2
            groups.setdefault((mover(board), kind, num_stones(board)), []).append(board)
    numbers = Counter((mark, kind) for mark, kind, _ in groups)
    assert [numbers["X", kind] for kind in range(3)] == [3, 3, 4]
    assert [numbers["O", kind] for kind in range(3)] == [2, 3, 3]
    assert set(counts) <= set().union(*groups.values())
    for (mark, kind, _), boards in groups.items():
        found = [counts[board] for board in boards]
        expected = 10_000 / numbers[mark, kind]
        assert sum(found) == pytest.approx(expected, rel=0.08)  # 4 deviations or more
        mean = sum(found) / len(boards)
        spread = sum((count - mean) ** 2 / mean for count in found) / (len(boards) - 1)
        deviation = math.sqrt(2 / (len(boards) - 1))  # of independent draws around 1
        assert abs(spread - 1) < 5 * deviation, spread


# Splits.


def test_a_game_is_for_training_exactly_when_no_assistant_position_on_its_path_is_held_out(games):
    seen = Counter()
    for game in games:
        asked = {held_out(board) for board, _ in assistant_turns(game)} - {"train"}
        expected = "test" if "test" in asked else "validation" if asked else "train"
        assert game.split == expected, game
        seen[expected] += 1
    assert len(seen) == 3 and min(seen.values()) > 50


@pytest.mark.parametrize(("random_ties", "set_up_rate"), [(False, 0.0), (True, 0.0), (False, 1.0)])
def test_the_train_stream_passes_through_no_held_out_position_and_the_others_do(
    random_ties, set_up_rate
):
    task = TicTacToe(TicTacToe.Config(random_ties=random_ties, set_up_rate=set_up_rate))
    positions = {}
    keys = {}
    for split in ("train", "validation", "test"):
        stream = task.stream(split=split, seed=0)
        positions[split] = set()
        keys[split] = set()
        for _ in range(5000):
            example = next(stream)
            assert example["split"] == split
            turns = assistant_turns(frozen(example))
            found = {canonical(board) for board, _ in turns if num_stones(board) >= 3}
            if split != "train":
                assert any(held_out(tuple(board)) == split for board in found)
            positions[split] |= found
            keys[split].add(example["key"])
    assert positions["train"]
    assert all(held_out(tuple(board)) == "train" for board in positions["train"])
    assert not any(
        keys[a] & keys[b]
        for a, b in [("train", "test"), ("train", "validation"), ("validation", "test")]
    )
    novel = {board for board in positions["test"] if held_out(tuple(board)) == "test"}
    assert len(novel) >= 5
    assert not novel & positions["train"]


@pytest.mark.parametrize(("random_ties", "set_up_rate"), [(False, 0.0), (True, 0.0), (False, 1.0)])
def test_validation_and_test_each_hold_2_to_20_percent_of_the_reachable_positions(
    random_ties, set_up_rate
):
    settings = {"random_ties": random_ties, "set_up_rate": set_up_rate, "user_optimal_rate": 0.0}
    drawn = play(20_000, "reachable", **settings)
    reachable = {
        canonical(board)
        for game in drawn
        for board, _ in assistant_turns(game)
        if num_stones(board) >= 3
    }
    assert len(reachable) > 60
    counts = Counter(held_out(tuple(board)) for board in reachable)
    for split in ("validation", "test"):
        assert 0.02 <= counts[split] / len(reachable) <= 0.2, counts


def test_keys_tell_games_apart_up_to_symmetry_and_splits_are_disjoint_by_key(games):
    splits = {}
    classes = {}
    for game in games:
        assert splits.setdefault(game.key, game.split) == game.split
        path = path_of(game.moves, game.opening)
        eight_paths = zip(*(images(board) for board in path), strict=True)
        told_apart = (game.mark, min(eight_paths))
        assert classes.setdefault(game.key, told_apart) == told_apart
    assert len(set(classes.values())) == len(classes) > 500


# Scoring.


def test_gold_games_score_1(examples):
    task = TicTacToe()
    for example in examples:
        score = task.score(example, example["messages"])
        assert score.value == 1, score
        assert score.reason == ""


def changed(example, index, part, new):
    reply = copy.deepcopy(example["messages"])
    reply[index][part] = new
    return reply


def call_indices(reply):
    return [index for index, message in enumerate(reply) if message["tool_calls"]]


def false_claim_of_o(example, other, draws):
    """The constant conversation that a broken evaluator gave full marks."""
    reply = copy.deepcopy(example["messages"][:1])
    for _ in range(3):
        reply += [
            call("board[0][0]='Z'\nprint(board)"),
            tool("Z..\n...\n...\nO wins"),
            assistant("I play top left."),
        ]
        reply.append(user("top"))
    return [*reply[:-1], assistant("O wins")]


def altered_board(example, other, draws):
    index = draws.choice(call_indices(example["messages"])) + 1
    board, _, result = example["messages"][index]["content"].rpartition("\n")
    spot = draws.choice([spot for spot, sign in enumerate(board) if sign in "XO."])
    sign = draws.choice([sign for sign in "XO." if sign != board[spot]])
    altered = f"{board[:spot]}{sign}{board[spot + 1 :]}\n{result}"
    return changed(example, index, "content", altered)


def altered_result(example, other, draws):
    """Another last line of what the tool says of the last board."""
    index = call_indices(example["messages"])[-1] + 1
    board, _, result = example["messages"][index]["content"].rpartition("\n")
    others = [said for said in ("X wins", "O wins", "Draw", "") if said != result]
    return changed(example, index, "content", f"{board}\n{draws.choice(others)}")


def the_other_print(example, other, draws):
    """A later call prints otherwise, and the output is what the tool truly prints then."""
    reply = copy.deepcopy(example["messages"])
    index = draws.choice(call_indices(reply)[1:])
    *statements, last = code_of(reply[index]).split("\n")
    (otherwise,) = {"print(board)", "print(board.lines)"} - {last}
    reply[index] = call("\n".join([*statements, otherwise]))
    return with_real_outputs(reply)


def wrong_claim(example, other, draws):
    claims = [
        index
        for index, message in enumerate(example["messages"])
        if message["content"].startswith("I play")
    ]
    index = draws.choice(claims)
    claim, _, rest = example["messages"][index]["content"].partition(".")
    wrong = "I play top left." if claim == "I play center" else "I play center."
    return changed(example, index, "content", wrong + rest)


def wrong_verdict(example, other, draws):
    last = example["messages"][-1]["content"]
    verdict = draws.choice([said for said in ("Draw.", "I win.", "You win.") if said not in last])
    turned = re.sub(r"(Draw|I win|You win)\.$", verdict, last)
    return changed(example, -1, "content", turned)


def illegal_move(example, other, draws):
    """The assistant's last move puts its stone where one lies, and the tool truly says so."""
    reply = copy.deepcopy(example["messages"])
    index = [at for at in call_indices(reply) if code_of(reply[at]).endswith("print(board)")][-1]
    game = frozen(example)
    end = path_of(game.moves, game.opening)[-1]
    taken = next(cell for cell in range(9) if end[cell] != "." and cell not in game.moves[-2:])
    code = f"{statement(game.mark, taken)}\nprint(board)"
    reply[index] = call(code)
    reply = with_real_outputs(reply)
    assert reply[index + 1]["content"].startswith("error: ")
    return reply


def with_real_outputs(reply):
    """The reply with what the tool prints for its calls."""
    session = TicTacToe().tools()
    for index in call_indices(reply):
        arguments = reply[index]["tool_calls"][0]["function"]["arguments"]
        reply[index + 1] = tool(session.call("python", arguments))
    return reply


def code_of(message):
    return message["tool_calls"][0]["function"]["arguments"]["code"]


def both_stones_in_one_call(example, other, draws):
    """The last turn of two calls as one call with both stones and the true board."""
    reply = copy.deepcopy(example["messages"])
    indices = call_indices(reply)
    first = next(a for a, b in itertools.pairwise(indices[::-1]) if a == b + 2) - 2
    merged = code_of(reply[first]).replace("print(board.lines)", code_of(reply[first + 2]))
    return with_real_outputs([*reply[:first], call(merged), *reply[first + 3 :]])


def two_moves_at_once(example, other, draws):
    """The last move of the assistant, and a second stone of its own in the same call."""
    game = frozen(example)
    reply = copy.deepcopy(example["messages"])
    path = path_of(game.moves, game.opening)
    number = max(n for n, board in enumerate(path[:-1]) if mover(board) == game.mark)
    index = call_indices(reply)[number + 1]
    others = [cell for cell in moves_of(path[number]) if cell != game.moves[number]]
    second = statement(game.mark, others[0] if others else game.moves[number])
    reply[index] = call(code_of(reply[index]).replace("print", f"{second}\nprint"))
    return reply


def renamed_tool(example, other, draws):
    reply = copy.deepcopy(example["messages"])
    reply[call_indices(reply)[-1]]["tool_calls"][0]["function"]["name"] = "bash"
    return reply


TAGS = "<|python_start|>board[0][0]='X'<|python_end|><|output_start|>X wins<|output_end|>"
CORRUPTIONS = {
    "nothing at all": lambda gold, other, draws: [],
    "the opening alone": lambda gold, other, draws: gold["messages"][:1],
    "a constant with board[0][0]='Z' and a false O wins": false_claim_of_o,
    "tag soup": lambda gold, other, draws: [gold["messages"][0], assistant(TAGS * 10)],
    "tag soup everywhere": lambda gold, other, draws: [
        {**message, "content": TAGS} for message in gold["messages"]
    ],
    "tag soup at the end": lambda gold, other, draws: changed(
        gold, -1, "content", f"{gold['messages'][-1]['content']}{TAGS}"
    ),
    "another game's text": lambda gold, other, draws: other["messages"],
    "another game's reply": lambda gold, other, draws: [
        gold["messages"][0],
        *other["messages"][1:],
    ],
    "an altered board": altered_board,
    "an altered result": altered_result,
    "the other print of a board": the_other_print,
    "an empty tool output": lambda gold, other, draws: changed(
        gold, call_indices(gold["messages"])[0] + 1, "content", ""
    ),
    "a wrong claim about the move": wrong_claim,
    "a wrong verdict": wrong_verdict,
    "no verdict": lambda gold, other, draws: changed(gold, -1, "content", "I play on."),
    "an illegal move": illegal_move,
    "two moves at once": two_moves_at_once,
    "both stones in one call": both_stones_in_one_call,
    "a call of another tool": renamed_tool,
    "a truncated game": lambda gold, other, draws: gold["messages"][
        : -draws.randint(1, len(gold["messages"]) - 1)
    ],
    "no tool messages": lambda gold, other, draws: [
        m for m in gold["messages"] if m["role"] != "tool"
    ],
    "no claims": lambda gold, other, draws: [
        m for m in gold["messages"] if not m["content"].startswith("I play")
    ],
    "a message too many": lambda gold, other, draws: [*gold["messages"], user("Another game?")],
    "the last words twice": lambda gold, other, draws: [*gold["messages"], gold["messages"][-1]],
    "a call without code": lambda gold, other, draws: changed(
        gold, call_indices(gold["messages"])[0], "tool_calls", [{}]
    ),
    "two calls in a message": lambda gold, other, draws: changed(
        gold,
        call_indices(gold["messages"])[0],
        "tool_calls",
        gold["messages"][call_indices(gold["messages"])[0]]["tool_calls"] * 2,
    ),
    "words beside a call": lambda gold, other, draws: changed(
        gold, call_indices(gold["messages"])[0], "content", "I win."
    ),
    "an output by another name": lambda gold, other, draws: changed(
        gold, draws.choice(call_indices(gold["messages"])) + 1, "name", "bash"
    ),
    "a board said by the assistant": lambda gold, other, draws: changed(
        gold, call_indices(gold["messages"])[0] + 1, "role", "assistant"
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_game_scores_below_1_and_says_why(examples, name):
    task = TicTacToe()
    draws = random.Random(0)
    tried = 0
    for example, other in zip(examples, [*examples[7:], *examples[:7]], strict=True):
        if name.startswith("another") and frozen(example).opening == frozen(other).opening:
            continue  # from one beginning the assistant may play on as in any such game
        reply = CORRUPTIONS[name](example, other, draws)
        assert reply != example["messages"]
        score = task.score(example, reply)
        assert score.value < 1, (score, reply)
        assert score.reason
        tried += 1
    assert tried > 100


def test_an_illegal_move_is_named(examples):
    for example in examples[:200]:
        score = TicTacToe().score(example, illegal_move(example, None, None))
        assert score.reason.startswith("illegal move board["), score


def test_a_call_that_prints_nothing_is_named(examples):
    for example in examples[:200]:
        reply = copy.deepcopy(example["messages"])
        index = call_indices(reply)[-1]
        reply[index] = call(code_of(reply[index]).rpartition("\n")[0])
        score = TicTacToe().score(example, with_real_outputs(reply))
        assert score.reason == "a call does not end with a print of the board"


def played_on(opening, moves, mark):
    """Moves that go on from these, by optimal ones; none if they cannot be or `mark` loses."""
    board, played = opening, []
    while not ending(board):
        cell = moves[len(played)] if len(played) < len(moves) else optimal(board)[0]
        if cell not in moves_of(board):
            return []
        board = after(board, cell)
        played.append(cell)
    return played if len(played) >= len(moves) and ending(board) in ("Draw", f"{mark} wins") else []


def continuations(example, draws, *, want):
    """Moves that leave the example at an assistant's move and end as wanted; None if none found."""
    _, mark, opening, moves, *_ = frozen(example)
    path = path_of(moves, opening)
    for _ in range(20):
        turns = [number for number, board in enumerate(path[:-1]) if mover(board) == mark]
        start = draws.choice(turns)
        choices = [cell for cell in moves_of(path[start]) if cell != moves[start]]
        if want != "lost":
            choices = [cell for cell in choices if value(after(path[start], cell)) <= 0]
        if not choices:
            continue
        played = [*moves[:start], draws.choice(choices)]
        board = after(path[start], played[-1])
        while not ending(board):
            cells = moves_of(board)
            if (mover(board) == mark) == (want != "lost"):
                cells = optimal(board)
            played.append(draws.choice(cells))
            board = after(board, played[-1])
        lost = ending(board) not in ("Draw", f"{mark} wins")
        if lost == (want == "lost"):
            return played
    return None


def test_a_game_that_is_not_lost_scores_1_though_the_assistant_moves_otherwise(examples):
    task = TicTacToe()
    draws = random.Random(0)
    verdicts = Counter()
    from_set_ups = 0
    for example in examples:
        played = continuations(example, draws, want="not lost")
        if played:
            reply = told(first_words_of(example), played)
            score = task.score(example, reply)
            assert score.value == 1, (score, played)
            from_set_ups += is_set_up(frozen(example))
            verdicts[reply[-1]["content"].split(". ")[-1]] += 1
    assert verdicts["Draw."] > 50
    assert verdicts["I win."] > 50
    assert from_set_ups > 50


def test_a_lost_game_scores_below_1_whatever_is_said_at_its_end(examples):
    task = TicTacToe()
    draws = random.Random(0)
    tried = 0
    for example in examples:
        played = continuations(example, draws, want="lost")
        for last_words in (None, "I win.", "Draw.", "You win."):
            if played:
                reply = told(first_words_of(example), played, last_words=last_words)
                score = task.score(example, reply)
                assert (score.value, score.reason) == (0, "lost")
                tried += 1
    assert tried > 400


def test_a_user_who_moves_otherwise_before_the_assistant_does_is_another_game(examples):
    task = TicTacToe()
    tried = 0
    for example in examples:
        _, mark, opening, moves, *_ = frozen(example)
        for number, board in enumerate(path_of(moves, opening)[:-1]):
            others = [cell for cell in moves_of(board) if cell != moves[number]]
            if mover(board) == mark or not others:
                continue
            if played := played_on(opening, [*moves[:number], others[0]], mark):
                reply = told(first_words_of(example), played)
                score = task.score(example, reply)
                assert (score.value, score.reason) == (0, "another game")
                tried += 1
    assert tried > 100


def test_a_call_that_places_the_users_stone_elsewhere_than_the_user_said_scores_below_1(examples):
    task = TicTacToe()
    tried = 0
    for example in examples:
        for index, message in enumerate(example["messages"]):
            if message["role"] == "user" and index:
                wrong = next(name for name in CELL_NAMES if name != message["content"])
                reply = copy.deepcopy(example["messages"])
                reply[index]["content"] = wrong
                assert task.score(example, reply).value < 1
                tried += 1
    assert tried > 500


# Scoring of the first call.


def with_first_call(gold, change):
    """The game with another first call, and what the tool prints then."""
    reply = copy.deepcopy(gold["messages"])
    reply[1] = call(change(code_of(reply[1])))
    return with_real_outputs(reply)


def with_two_first_calls(gold):
    reply = copy.deepcopy(gold["messages"])
    first, rest = code_of(reply[1]).split("\n", 1)
    both = [call(f"{first}\nprint(board.lines)"), tool(""), call(rest), tool("")]
    return with_real_outputs([reply[0], *both, *reply[3:]])


def in_another_order(code):
    """The first and the third row exchanged, the statements and not what they say."""
    statements = code.split("\n")
    statements[0], statements[2] = statements[2], statements[0]
    return "\n".join(statements)


def with_the_move_at_once(gold):
    """The first two calls as one."""
    set_up, move = code_of(gold["messages"][1]), code_of(gold["messages"][3])
    code = set_up.removesuffix("print(board.lines)") + move
    return with_real_outputs([gold["messages"][0], call(code), tool(""), *gold["messages"][5:]])


SET_UP_CORRUPTIONS = {
    "a row is left out": lambda gold: with_first_call(gold, lambda code: code.split("\n", 1)[1]),
    "the signs are changed": lambda gold: with_first_call(
        gold, lambda code: code.translate(str.maketrans("XO", "OX"))
    ),
    "the order is another": lambda gold: with_first_call(gold, in_another_order),
    "the board is not printed": lambda gold: with_first_call(
        gold, lambda code: code.removesuffix("\nprint(board.lines)")
    ),
    "it looks at the rows alone": lambda gold: with_first_call(
        gold, lambda code: code.replace("board.lines", "board")
    ),
    "it takes two calls": with_two_first_calls,
    "the move is made at once": with_the_move_at_once,
    "it is not done": lambda gold: with_real_outputs([gold["messages"][0], *gold["messages"][3:]]),
}


@pytest.mark.parametrize("name", SET_UP_CORRUPTIONS)
def test_a_set_up_that_is_put_down_wrongly_scores_below_1(examples, name):
    task = TicTacToe()
    tried = 0
    for example in examples:
        if is_set_up(frozen(example)):
            reply = SET_UP_CORRUPTIONS[name](example)
            assert reply != example["messages"]
            assert task.score(example, reply).value < 1, reply
            tried += 1
    assert tried > 100


def test_a_true_game_from_another_board_than_the_one_shown_scores_below_1(examples):
    """One stone lies elsewhere; the game is told truly from there, but for the user's words."""
    task = TicTacToe()
    tried = Counter()
    for example in examples:
        _, mark, opening, *_ = frozen(example)
        stones = [cell for cell in range(9) if opening[cell] != "."]
        for old, new in itertools.product(stones, moves_of(opening)):
            board = list(opening)
            board[new], board[old] = board[old], "."
            if played := played_on(tuple(board), [], mark):
                words = first_words_of(example).split("\n")[0]
                reply = told(f"{words}\n{printed(tuple(board))}", played)
                reply[0] = example["messages"][0]
                assert task.score(example, reply).value < 1, reply
                tried[len(stones)] += 1
    assert sorted(tried) == list(range(1, 9))
    assert tried.total() > 500
