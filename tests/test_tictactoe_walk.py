"""The whole tree of tic-tac-toe, tried with scripted players whose figures are known beforehand.

A player here reads the conversation, chooses by a policy (a function from a board to a cell), runs
the real tool and speaks the truth, unless a test spoils its turn. What it should be found to do is
counted by a recursion over the game tree that shares no code with `mixgen`.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections import Counter
from functools import cache
from typing import NamedTuple

import pytest
from test_tictactoe import (
    CELL_NAMES,
    EMPTY,
    after,
    all_positions,
    board_shown,
    ending,
    frozen_turns,
    held_out,
    mover,
    moves_of,
    optimal,
    path_of,
    printed,
    printed_lines,
    row_statements,
    soonest,
    statement,
    threats,
    told,
    value,
    verdict_of,
    wins_at_once,
)

from mixgen.errors import TaskError
from mixgen.seeding import rng
from mixgen.tasks._tictactoe_set_ups import from_set_ups
from mixgen.tasks.messages import assistant, call, tool
from mixgen.tasks.tictactoe import TicTacToe
from mixgen.tasks.trial import Turn
from mixgen.tools.board import BoardSession

STONE = re.compile(r"board\[(\d)\]\[(\d)\]='([XO])'")
LONGEST_NAME_FIRST = sorted(range(9), key=lambda cell: -len(CELL_NAMES[cell]))
BROKEN = ("illegal", "wrong_boards", "unreadable")

# Scripted players.


class Plan(NamedTuple):
    """A turn before it is carried out; stones are signs and cells."""

    board: tuple  # with the assistant to move, or finished by the user
    mark: str
    theirs: str  # the user's mark
    users: list  # the stone that the user has just named, if any
    own: list  # one's stone, but for a finished game
    calls: list  # the statements of each call
    words: str
    prints: tuple = ("print(board.lines)", "print(board)")  # in the first call, and in the others


def codes_of(messages):
    calls = itertools.chain.from_iterable(message["tool_calls"] for message in messages)
    return [made["function"]["arguments"]["code"] for made in calls]


def read(conversation):
    """The assistant's mark, the board after what the user has just said, and the stone in it."""
    opening, last = conversation[0]["content"], conversation[-1]
    board = board_shown(opening)
    mark = mover(board)
    for row, column, sign in STONE.findall("".join(codes_of(conversation))):
        board = put(board, sign, 3 * int(row) + int(column))
    named = [cell for cell in LONGEST_NAME_FIRST if CELL_NAMES[cell] in last["content"]]
    if last["role"] != "user" or len(conversation) == 1:
        return mark, board, []
    theirs = "XO"[mark == "X"]
    return mark, put(board, theirs, named[0]), [(theirs, named[0])]


def put(board, sign, cell):
    return (*board[:cell], sign, *board[cell + 1 :])


def plan(conversation, policy):
    mark, board, users = read(conversation)
    own, words = [], []
    end = board
    if not ending(board):
        own = [(mark, policy(board))]
        end = after(board, policy(board))
        words = [f"I play {CELL_NAMES[policy(board)]}."]
    if ending(end):
        words.append(verdict_of(mark, ending(end)))
    news = [statement(*stone) for stone in users] or row_statements(board)
    calls = [news, *[[statement(*stone)] for stone in own]]
    return Plan(board, mark, "XO"[mark == "X"], users, own, calls, " ".join(words))


def carry_out(conversation, planned):
    session = BoardSession()
    for code in codes_of(conversation):
        session.call("python", {"code": code})
    messages = []
    for number, statements in enumerate(planned.calls):
        code = "\n".join([*statements, planned.prints[number > 0]])
        messages += [call(code), tool(session.call("python", {"code": code}))]
    return Turn([*messages, assistant(planned.words)])


def player(policy, spoil=lambda planned: planned, spoil_turn=lambda planned, turn: turn):
    """An answer by a policy; `spoil` changes plans, `spoil_turn` what has been carried out."""

    def turn(conversation):
        assert conversation[-1]["role"] == "user"
        planned = plan(conversation, policy)
        return spoil_turn(planned, carry_out(conversation, spoil(planned)))

    return lambda conversations: [turn(conversation) for conversation in conversations]


def perfect(board):
    return soonest(board)[0]


def slow(board):
    """Never lets go of a win or a draw, and never wins at once if it can win later."""
    later = [cell for cell in optimal(board) if cell not in wins_at_once(board)]
    return (later or optimal(board))[0]


@cache
def by_chance(board):
    return rng(0, "test game walk", "".join(board)).choice(moves_of(board))


POLICIES = {
    "perfect": perfect,
    "slow": slow,
    "first legal": lambda board: moves_of(board)[0],
    "last legal": lambda board: moves_of(board)[-1],
    "by chance": by_chance,
}

# What is expected of them.


class Known(NamedTuple):
    """A line of play as it should be found."""

    mark: str
    end: str
    decisions: tuple  # the boards with the player to move
    is_false: bool = False  # whether something false was said


def known_lines(policy, fault_of=lambda board: ""):
    """Every line against a policy, and every decision once for each history of the game.

    A fault on a board breaks the line off there, but for `"claim"`, after which it goes on.
    """
    lines, decisions = [], []

    def go_on(mark, board, past, is_false):
        theirs = "XO"[mark == "X"]
        if outcome := ending(board):
            end = {"Draw": "drawn", f"{mark} wins": "won", f"{theirs} wins": "losses"}[outcome]
            lines.append(Known(mark, end, past, is_false))
        elif mover(board) != mark:
            for cell in moves_of(board):
                go_on(mark, after(board, cell), past, is_false)
        else:
            fault = fault_of(board)
            decisions.append(board)
            past = (*past, board)
            if fault in BROKEN:
                lines.append(Known(mark, fault, past, is_false))
            else:
                go_on(mark, after(board, policy(board)), past, is_false or fault == "claim")

    go_on("X", EMPTY, (), False)
    go_on("O", EMPTY, (), False)
    return lines, decisions


def is_seen(line):
    return all(held_out(board) == "train" for board in line.decisions)


def check_lines(result, lines):
    """Holds each count of lines to what is known, over all and by group."""
    groups = {
        "": lines,
        "seen": [line for line in lines if is_seen(line)],
        "as X": [line for line in lines if line.mark == "X"],
        "as O": [line for line in lines if line.mark == "O"],
    }
    assert 0 < len(groups["seen"]) < len(lines)
    for group, part in groups.items():
        ends = Counter(line.end for line in part)
        right = [line for line in part if line.end in ("won", "drawn") and not line.is_false]
        known = {
            "exact": len(right),
            "wrong_claims": sum(line.is_false for line in part),
            **{end: ends[end] for end in ("won", "drawn", *BROKEN)},
            "losses": len(part) - ends["won"] - ends["drawn"],
        }
        found = {name: result[f"{name}/{group}"] for name in known}
        assert {name: metric.count for name, metric in found.items()} == known, group
        assert {metric.total for metric in found.values()} == {len(part)}, group
    assert len(result.trials) == len(lines)
    assert sum(trial.score.value for trial in result.trials) == result["exact"].count


def check_moves(result, decisions, policy, split, illegal=lambda board: False):
    """Holds each count of single moves to what is known; a policy's move counts as made."""
    for prefix, wanted in (("seen_", "train"), ("held_out_", split)):
        part = [board for board in decisions if held_out(board) == wanted]
        open_still = [board for board in part if value(board) >= 0]
        winning = [board for board in part if wins_at_once(board)]
        blocking = [board for board in part if threats(board) and board not in winning]
        made = {board: None if illegal(board) else policy(board) for board in part}
        for name, chosen, right in (
            ("legal", part, moves_of),
            ("optimal", open_still, optimal),
            ("wins_taken", winning, wins_at_once),
            ("blocks_made", blocking, threats),
        ):
            metric = result[prefix + name]
            assert metric.total == len(chosen) > 0
            assert metric.count == sum(made[board] in right(board) for board in chosen), name


def tried(answer, split="test", num_examples=10):
    return TicTacToe().evaluate(answer, split=split, num_examples=num_examples)


# Players without a fault.


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_perfect_player_is_found_perfect_on_every_line(split):
    lines, decisions = known_lines(perfect)
    result = tried(player(perfect), split)
    check_lines(result, lines)
    check_moves(result, decisions, perfect, split)
    assert result["exact"].rate == 1.0
    for name in ("legal", "optimal", "wins_taken", "blocks_made"):
        assert result[f"seen_{name}"].rate == result[f"held_out_{name}"].rate == 1.0
    for name in ("losses", "wrong_claims", *BROKEN):
        assert result[name].value == 0 and result[name].is_fault
    assert not any(metric.is_sample for metric in result.metrics)
    assert (result.task, result.split) == ("tictactoe", split)


@pytest.mark.parametrize("name", POLICIES)
def test_any_policy_is_counted_as_a_recursion_over_its_tree_counts_it(name):
    policy = POLICIES[name]
    lines, decisions = known_lines(policy)
    result = tried(player(policy))
    check_lines(result, lines)
    check_moves(result, decisions, policy, "test")
    assert result["exact"].count == result["won"].count + result["drawn"].count
    never_worse = name in ("perfect", "slow")  # a win put off is optimal, but not taken
    assert bool(result["losses"].count) != never_worse
    assert (result["seen_optimal"].rate == 1) == never_worse
    assert (result["held_out_optimal"].rate == 1) == never_worse
    assert (result["seen_wins_taken"].rate == 1) == (name == "perfect")


def test_a_move_that_many_lines_go_on_from_is_counted_once():
    lines, decisions = known_lines(perfect)
    assert len(decisions) < sum(len(line.decisions) for line in lines) / 2
    seen = sum(held_out(board) == "train" for board in decisions)
    assert tried(player(perfect))["seen_legal"].total == seen


def test_no_conversation_is_asked_twice_and_all_are_asked_in_a_few_batches():
    asked = []

    def answer(conversations):
        asked.append([str(conversation) for conversation in conversations])
        return player(perfect)(conversations)

    tried(answer)
    flat = list(itertools.chain.from_iterable(asked))
    assert len(set(flat)) == len(flat) > 1000
    assert len(asked) == 5 + 5  # turns in a game, on either side
    tried(answer, num_examples=1000)
    assert len(asked) == 10 + 3 * 10 + 1  # and the move in a position that is set up


def test_a_right_line_is_told_as_the_data_tells_it_and_scores_1_there():
    task = TicTacToe()
    result = tried(player(by_chance))
    right = [trial for trial in result.trials if trial.score.value == 1]
    assert len(right) > 100
    for trial in right:
        mark, board, _ = read(trial.messages)
        stones = STONE.findall("".join(codes_of(trial.messages)))
        moves = [3 * int(row) + int(column) for row, column, _ in stones]
        assert ending(board)
        first_words = trial.messages[0]["content"]
        gold = told(first_words, moves)
        assert frozen_turns(trial.messages) == frozen_turns(gold)
        opening = "".join(board_shown(first_words))
        facts = {"assistant": mark, "opening": opening, "moves": moves}
        assert task.score({"messages": gold, "metadata": facts}, trial.messages).value == 1


def test_from_1000_examples_on_all_wordings_are_tried_and_one_below():
    lines, decisions = known_lines(perfect)
    one, all_three = (tried(player(perfect), num_examples=n) for n in (999, 1000))
    assert len({trial.messages[0]["content"] for trial in one.trials}) == 1 + 9
    task = TicTacToe(TicTacToe.Config(set_up_rate=0.0))
    generator = rng(0, "test game walk", "openings")
    openings = {task.sample(generator)["messages"][0]["content"] for _ in range(3000)}
    assert {trial.messages[0]["content"] for trial in all_three.trials} == openings
    assert len(openings) == 3 * (1 + 9)
    check_lines(one, lines)
    check_lines(all_three, lines * 3)
    check_moves(all_three, decisions * 3, perfect, "test")
    assert {metric.group for metric in one.metrics} == {"", "as X", "as O", "seen"}
    assert {metric.group for metric in all_three.metrics} == {"", "as X", "as O", "seen", "set-ups"}


def test_a_player_that_understands_one_wording_only_fails_in_the_others():
    def answer(asked):
        heard = [conversation[0]["content"].startswith("Let's play") for conversation in asked]
        turns = player(perfect)(asked)
        return [turn if ok else Turn([]) for ok, turn in zip(heard, turns, strict=True)]

    lines, _ = known_lines(perfect)
    result = tried(answer, num_examples=1000)
    assert result["exact"].count == len(lines)
    assert result["unreadable"].count == 2 * (1 + 9)
    assert result["exact"].total == len(lines) + 2 * (1 + 9)


# Every held-out position, from a set-up.


@cache
def held_out_boards(split):
    boards = [board for board in all_positions() if not ending(board)]
    return [board for board in boards if held_out(board) == split and value(board) >= 0]


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("name", POLICIES)
def test_every_held_out_position_is_tried_once_from_a_set_up(name, split):
    boards = held_out_boards(split)
    assert len(boards) > 300
    asked = []

    def answer(conversations):
        asked.append(conversations)
        return player(POLICIES[name])(conversations)

    moves = from_set_ups(answer, split)
    assert sorted(move.board for move in moves) == sorted("".join(board) for board in boards)
    for move in moves:
        assert move.cell == POLICIES[name](tuple(move.board))
    openings = [conversation[0]["content"] for conversation in asked[0]]
    assert [len(conversation) for conversation in asked[0]] == [1] * len(boards)
    for words in ("You are", "You play", "Your mark is"):
        assert sum(words in opening for opening in openings) > len(boards) / 4
    result = tried(player(POLICIES[name]), split, num_examples=1000)
    good = sum(POLICIES[name](board) in optimal(board) for board in boards)
    counted = result["held_out_optimal/set-ups"]
    assert (counted.count, counted.total) == (good, len(boards))
    counted = result["held_out_legal/set-ups"]
    assert (counted.count, counted.total) == (len(boards), len(boards))
    assert f"From set-ups: {len(boards)} held-out positions" in result.note
    assert "set-ups" not in tried(player(POLICIES[name]), split, num_examples=999).note


def test_who_sets_up_another_position_or_in_another_way_has_made_no_move():
    def with_first_call(change):
        def spoil(turn):
            *rows, last = codes_of(turn.messages)[0].split("\n")
            code = "\n".join([*change(rows), last])
            output = BoardSession().call("python", {"code": code})
            return Turn([call(code), tool(output), *turn.messages[2:]])

        return spoil

    spoils = {
        "another order": with_first_call(lambda rows: rows[::-1]),
        "a row twice": with_first_call(lambda rows: [*rows, rows[0]]),
        "a row less": with_first_call(lambda rows: rows[1:]),
        "not at all": lambda turn: Turn(turn.messages[2:]),
        "nothing": lambda turn: Turn([assistant("I play center.")]),
        "a fault": lambda turn: turn._replace(fault="too many tokens in one turn"),
    }
    for name, spoil in spoils.items():

        def answer(conversations, spoil=spoil):
            return [spoil(turn) for turn in player(perfect)(conversations)]

        assert all(move.cell is None for move in from_set_ups(answer, "test")), name


def test_positions_for_training_are_not_called_held_out():
    result = tried(player(perfect), "train", num_examples=1000)
    counted = {metric.name for metric in result.metrics if metric.total}
    assert "seen_optimal" in counted and "held_out_optimal" not in counted
    assert "set-ups" not in result.note
    with pytest.raises(TaskError, match="unknown split 'tset': did you mean 'test'"):
        tried(player(perfect), "tset")


# Fakes.


def a_turn(words, code, output):
    return Turn([call(code), tool(output), assistant(words)])


def really_run(words, code):
    return a_turn(words, code, BoardSession().call("python", {"code": code}))


def another_game(asked):
    """Turn by turn the text of an X game where the model is O, and the other way round."""
    turns = []
    moves = [4, 0, 2, 6, 3, 5, 1, 7, 8]
    for conversation in asked:
        mark, _, _ = read(conversation)
        shown = int(mark == "X")
        opening = printed(path_of(moves[:shown])[-1])
        text = told(f"Tic-tac-toe. You are {'XO'[shown]}:\n{opening}", moves[shown:])
        starts = [number for number, message in enumerate(text) if message["role"] == "user"]
        turn = sum(message["role"] == "user" for message in conversation) - 1
        turns.append(Turn(text[starts[turn] + 1 : [*starts, None][turn + 1]]))
    return turns


TAGS = "<|python_start|>board[0][0]='X'<|python_end|><|output_start|>X wins<|output_end|>"
Z = "board[0][0]='Z'\nprint(board)"
ONE_MOVE = "board[1][1]='X'\nprint(board)"
CONSTANTS = {
    "a Z and a false O wins": a_turn("I play top left. O wins", Z, "Z..\n...\n...\nO wins"),
    "a Z that is claimed as a win": a_turn("I win.", Z, "Z..\n...\n...\nO wins"),
    "a Z, and what the tool says of it": really_run("I win.", Z),
    "one legal move for ever": really_run("I play center.", ONE_MOVE),
    "tag soup": Turn([assistant(TAGS * 10)]),
    "tag soup in a call": a_turn(TAGS, TAGS, "X wins"),
    "nothing": Turn([]),
    "empty words": Turn([assistant("")]),
    "a verdict alone": Turn([assistant("I win.")]),
    "a call without an end": Turn([call(ONE_MOVE), tool("...\n.X.\n...\n")]),
    "a call of what is no text": a_turn("I win.", 7, "error: no"),
}
FAKES = {
    **{name: lambda asked, turn=turn: [turn] * len(asked) for name, turn in CONSTANTS.items()},
    "another game's text": another_game,
    "a fault after a perfect turn": lambda asked: [
        turn._replace(fault="too many tokens in one turn") for turn in player(perfect)(asked)
    ],
}


@pytest.mark.parametrize("name", FAKES)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_fake_gets_exactly_nothing(name, split):
    result = tried(FAKES[name], split, num_examples=1000)
    assert result["exact"].total >= 3 * (1 + 9)
    for end in ("exact", "won", "drawn"):
        assert result[end].count == 0
    assert result["losses"].rate == 1
    assert sum(result[fault].count for fault in BROKEN) == result["exact"].total
    assert all(trial.score.value == 0 and trial.score.reason for trial in result.trials)


# Single faults of a player that is perfect but for them.


def is_chosen(board):
    """Some of the positions for training that a perfect player comes to."""
    return board.count(".") in (5, 6) and board[8] == "." and held_out(board) == "train"


def taken(planned):
    return next(cell for cell in range(9) if planned.board[cell] != ".")


def free(planned):
    """A free cell that nobody's stone was to go to."""
    return next(cell for cell in moves_of(planned.board) if cell != planned.own[0][1])


def forged(turn, index, content=None):
    """The turn with another board in one of its tools' outputs."""
    messages = [dict(message) for message in turn.messages]
    outputs = [message for message in messages if message["role"] == "tool"]
    outputs[index]["content"] = content or outputs[index]["content"].replace(".", "X", 1)
    return turn._replace(messages=messages)


def with_a_z(turn):
    """The turn with one statement more in its last call, of which the output says nothing."""
    *before, _, output, words = turn.messages
    return Turn([*before, call(f"board[0][0]='Z'\n{codes_of(turn.messages)[-1]}"), output, words])


def with_another_tool(turn):
    messages = copy.deepcopy(turn.messages)
    messages[0]["tool_calls"][0]["function"]["name"] = "bash"
    return turn._replace(messages=messages)


def with_another_argument(turn):
    messages = copy.deepcopy(turn.messages)
    messages[0]["tool_calls"][0]["function"]["arguments"]["more"] = ""
    return turn._replace(messages=messages)


def without_a_print(turn):
    """The turn without the print of its last call, though the output is as if there were one."""
    *before, _, output, words = turn.messages
    return Turn([*before, call(codes_of(turn.messages)[-1].rpartition("\n")[0]), output, words])


PUT_DOWN = {  # what is put down instead on the chosen boards, and the fault that this is
    "a stone on a stone": ("illegal", lambda p: [*p.users, (p.mark, taken(p))]),
    "the user's elsewhere": ("wrong_boards", lambda p: [(p.theirs, free(p)), *p.own]),
    "the user's as one's own": ("wrong_boards", lambda p: [(p.mark, p.users[0][1]), *p.own]),
    "a stone on a stone, then a move": (
        "illegal",
        lambda p: [*p.users, (p.mark, taken(p)), *p.own],
    ),
    "the user's left out": ("wrong_boards", lambda p: p.own),
    "the user's on a stone": ("wrong_boards", lambda p: [*p.users, (p.theirs, taken(p))]),
    "none of one's own": ("wrong_boards", lambda p: p.users),
    "two of one's own": ("wrong_boards", lambda p: [*p.users, *p.own, (p.mark, free(p))]),
    "two of the user's": ("wrong_boards", lambda p: [*p.users, *p.own, (p.theirs, free(p))]),
}
CARRIED_OUT = {  # what comes of the turn instead
    "another board as output": ("wrong_boards", lambda turn: forged(turn, -1)),
    "a Z beside one's own": ("wrong_boards", with_a_z),
    "another tool": ("wrong_boards", with_another_tool),
    "another argument": ("wrong_boards", with_another_argument),
    "no print": ("wrong_boards", without_a_print),
    "a fault": ("unreadable", lambda turn: turn._replace(fault="too many tokens in one turn")),
    "no last words": ("unreadable", lambda turn: Turn(turn.messages[:-1])),
}


def spoiled_player(name, is_spoiled, *, is_hidden=False):
    """The fault that a player commits on some boards, and the player, perfect on the others.

    A fault is hidden if the tool's outputs are made to show what would be right.
    """
    fault, change = (PUT_DOWN | CARRIED_OUT)[name]

    def spoil(planned):
        if name in PUT_DOWN and is_spoiled(planned.board):
            return planned._replace(calls=[[statement(*stone)] for stone in change(planned)])
        return planned

    def spoil_turn(planned, turn):
        if not is_spoiled(planned.board):
            return turn
        if is_hidden:
            turn = forged(turn, 0, printed_lines(planned.board))
            turn = forged(turn, -1, printed(after(planned.board, planned.own[0][1])))
        return change(turn) if name in CARRIED_OUT else turn

    return fault, player(perfect, spoil, spoil_turn)


@pytest.mark.parametrize("name", [*PUT_DOWN, *CARRIED_OUT])
def test_a_single_fault_breaks_off_the_lines_it_is_on_and_is_told_from_the_others(name):
    fault, answer = spoiled_player(name, is_chosen)
    lines, _ = known_lines(perfect, lambda board: fault if is_chosen(board) else "")
    assert 10 < sum(line.end == fault for line in lines) < len(lines) / 2
    check_lines(tried(answer), lines)
    if name in PUT_DOWN:
        check_lines(tried(spoiled_player(name, is_chosen, is_hidden=True)[1]), lines)


@pytest.mark.parametrize("prints", [("print(board)",) * 2, ("print(board.lines)",) * 2])
def test_another_print_than_the_games_is_a_wrong_board_though_what_it_shows_is_true(prints):
    def print_otherwise(planned):
        return planned._replace(prints=prints) if is_chosen(planned.board) else planned

    lines, _ = known_lines(perfect, lambda board: "wrong_boards" if is_chosen(board) else "")
    check_lines(tried(player(perfect, print_otherwise)), lines)


def test_an_illegal_move_is_neither_a_legal_nor_an_optimal_move():
    _, answer = spoiled_player("a stone on a stone", is_chosen)
    _, decisions = known_lines(perfect, lambda board: "illegal" if is_chosen(board) else "")
    result = tried(answer)
    check_moves(result, decisions, perfect, "test", illegal=is_chosen)
    assert all(value(board) >= 0 for board in decisions)
    for name in ("seen_legal", "seen_optimal"):
        assert result[name].count == result[name].total - sum(map(is_chosen, decisions))


@pytest.mark.parametrize(
    "go_on",
    [
        lambda turn: turn._replace(fault="too many calls in one turn"),
        lambda turn: Turn(turn.messages[:-1]),
        lambda turn: Turn([*turn.messages[:-1], *turn.messages]),
    ],
)
def test_an_illegal_move_is_one_whatever_the_model_says_after_the_referees_error(go_on):
    def spoil_turn(planned, turn):
        return go_on(turn) if is_chosen(planned.board) else turn

    def spoil(planned):
        if not is_chosen(planned.board):
            return planned
        stones = [*planned.users, (planned.mark, taken(planned))]
        return planned._replace(calls=[[statement(*stone)] for stone in stones])

    lines, _ = known_lines(perfect, lambda board: "illegal" if is_chosen(board) else "")
    check_lines(tried(player(perfect, spoil, spoil_turn)), lines)


def test_a_false_claim_about_the_move_is_counted_and_the_game_goes_on():
    def lie(planned):
        words = "I play top." if planned.words == "I play center." else "I play center."
        return planned._replace(words=words) if is_chosen(planned.board) else planned

    lines, decisions = known_lines(perfect, lambda board: "claim" if is_chosen(board) else "")
    assert 0 < sum(line.is_false for line in lines) < len(lines)
    result = tried(player(perfect, lie))
    check_lines(result, lines)
    check_moves(result, decisions, perfect, "test")
    assert result["wrong_claims"].count == result["exact"].total - result["exact"].count


@pytest.mark.parametrize(
    ("end", "true", "false"),
    [("won", "I win.", "Draw."), ("won", "I win.", "You win."), ("drawn", "Draw.", "I win.")],
)
def test_a_false_verdict_is_a_wrong_claim_and_changes_no_ending(end, true, false):
    def lie(planned):
        return planned._replace(words=planned.words.replace(true, false))

    lines = [line._replace(is_false=line.end == end) for line in known_lines(perfect)[0]]
    check_lines(tried(player(perfect, lie)), lines)


def test_a_lost_game_that_is_called_won_is_lost_and_a_wrong_claim():
    policy = POLICIES["first legal"]

    def lie(planned):
        return planned._replace(words=planned.words.replace("You win.", "I win."))

    lines = [line._replace(is_false=line.end == "losses") for line in known_lines(policy)[0]]
    assert any(line.is_false for line in lines)
    check_lines(tried(player(policy, lie)), lines)


@pytest.mark.parametrize("fault", ["", "too many calls in one turn"])
def test_a_move_after_the_end_is_illegal_whatever_the_model_says_after_it(fault):
    def play_on(planned):
        cell = planned.board.index("." if "." in planned.board else "X")
        more = [[statement(planned.mark, cell)]] if ending(planned.board) else []
        return planned._replace(calls=planned.calls + more)

    def break_off(planned, turn):
        return turn._replace(fault=fault) if ending(planned.board) else turn

    policy = POLICIES["first legal"]
    lines, decisions = known_lines(policy)
    ended_by_user = sum(line.end == "losses" or line[:2] == ("O", "drawn") for line in lines)
    result = tried(player(policy, play_on, break_off))
    assert result["illegal"].count == ended_by_user > 100
    assert result["won"].count == sum(line.end == "won" for line in lines)
    check_moves(result, decisions, policy, "test")


# A line is seen if no held-out position is passed with the model to move.


def is_held_out(board):
    return held_out(board) != "train" and not ending(board)


def test_a_fault_on_held_out_positions_alone_leaves_the_seen_lines_exact():
    _, answer = spoiled_player("a stone on a stone", is_held_out)
    lines, _ = known_lines(perfect, lambda board: "illegal" if is_held_out(board) else "")
    result = tried(answer)
    check_lines(result, lines)
    assert result["exact/seen"].rate == 1.0
    assert result["illegal"].count > 10


@pytest.mark.parametrize("name", ["the user's elsewhere", "a fault"])
def test_a_line_broken_off_on_a_held_out_position_is_not_seen(name):
    fault, answer = spoiled_player(name, is_held_out)
    lines, _ = known_lines(perfect, lambda board: fault if is_held_out(board) else "")
    check_lines(tried(answer), lines)


def test_a_forged_output_of_the_first_of_two_calls_is_a_wrong_board():
    answer = player(perfect, spoil_turn=lambda p, t: forged(t, 0) if is_chosen(p.board) else t)
    lines, _ = known_lines(perfect, lambda board: "wrong_boards" if is_chosen(board) else "")
    check_lines(tried(answer), lines)


def test_a_false_claim_beside_a_call_is_a_wrong_claim():
    def claim(planned, turn):
        if not is_chosen(planned.board):
            return turn
        return turn._replace(
            messages=[{**turn.messages[0], "content": "I win."}, *turn.messages[1:]]
        )

    lines, _ = known_lines(perfect, lambda board: "claim" if is_chosen(board) else "")
    check_lines(tried(player(perfect, spoil_turn=claim)), lines)
