"""`mixgen chat`: what a person says comes to the model, and what the model does is shown."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from trained_model import trained_model

from mixgen.commands.chat import Talk
from mixgen.commands.play import Game
from mixgen.errors import RecipeError
from mixgen.tasks._tictactoe_tree import game_tree
from mixgen.tasks._tictactoe_words import CELLS, PLACE, rows_code, turn_messages
from mixgen.tasks.messages import assistant, user
from mixgen.tasks.trial import Turn
from mixgen.tools.board import EMPTY_BOARD, BoardSession, opponent, place, result, to_move
from mixgen.tools.session import ExpressionSession, JoinedTools


class Player:
    """A perfect player's turns, from what a person has said."""

    def __init__(self) -> None:
        self.asked = []

    def __call__(self, messages):
        self.asked.append(list(messages))
        said = [one["content"] for one in messages if one["role"] == "user"]
        opening = "".join(said[0].split("\n")[1:4])
        mark = to_move(opening)
        session = BoardSession()
        for message in messages:
            for made in message["tool_calls"]:
                session.call("python", made["function"]["arguments"])
        if len(said) == 1:
            board, code = opening, rows_code(opening)
        else:
            cell = CELLS.index(said[-1])
            theirs = opponent(mark)
            board, code = place(session.board, cell, theirs), PLACE[theirs][cell]
        own = None if result(board) else game_tree()[board].best[0]
        return Turn(turn_messages(mark, code, own, board))


def lines_of(talk, capsys, *lines):
    for line in lines:
        talk.hear(line)
    return capsys.readouterr()


@pytest.mark.parametrize("mark", ["X", "O"])
def test_a_whole_game_is_played_on_a_drawn_board(mark, capsys):
    talk = Talk(Player(), keeps=False)
    shown = lines_of(talk, capsys, f"/play {mark}")
    assert ("1 | 2 | 3" in shown.out) == (mark == "X")
    boards = []
    for _ in range(5):
        if talk.game is None:
            break
        free = next(at for at, cell in enumerate(talk.game.board) if cell == ".")
        shown = lines_of(talk, capsys, str(free + 1))
        boards.append(shown.out)
    assert talk.game is None and "The game is over. /play begins another." in shown.err
    assert f"{opponent(mark)} wins." in shown.out  # who plays the first free cell loses
    assert "board[" in shown.out and "I win." in shown.out
    assert "---+---+---" in boards[0]


def test_cells_are_told_by_number_or_name_and_mistakes_change_nothing(capsys):
    player = Player()
    talk = Talk(player, keeps=False)
    lines_of(talk, capsys, "/play", "Centre")
    board = talk.game.board
    assert board[4] == "X" and board.count("O") == 1
    for move, said in (("5", "is taken"), ("10", "no cell '10'"), ("midle", "1 to 9"), ("²", "no")):
        with pytest.raises(RecipeError, match=said):
            talk.hear(move)
        assert talk.game.board == board
    assert len(player.asked) == 1
    with pytest.raises(RecipeError, match="X or O"):
        talk.hear("/play Z")
    with pytest.raises(RecipeError, match="did you mean '/play'"):
        talk.hear("/plya")


@pytest.mark.parametrize(
    "code", ["board[0]='X.O'\nprint(board)", "board[0][0]='O'", "print(board)", "1+1"]
)
def test_a_model_that_does_not_play_one_legal_move_ends_the_game(code, capsys):
    from mixgen.tasks.messages import call, tool

    def cheat(messages):
        return Turn([call(code), tool("?"), assistant("I play top.")])

    talk = Talk(cheat, keeps=False)
    shown = lines_of(talk, capsys, "/play", "5")
    assert "the model has not played one legal move" in shown.err and talk.game is None


def test_a_game_is_played_only_with_a_model_that_has_it_as_a_task():
    talk = Talk(Player(), keeps=False, can_play=False)
    with pytest.raises(RecipeError, match="--tasks tictactoe tries it anyway"):
        talk.hear("/play X")
    assert talk.game is None


def test_a_turn_that_is_stopped_leaves_the_game_as_it_was(capsys):
    def stopped(messages):
        raise KeyboardInterrupt

    talk = Talk(stopped, keeps=False)
    lines_of(talk, capsys, "/play")
    with pytest.raises(KeyboardInterrupt):
        talk.hear("5")
    assert talk.game.board == EMPTY_BOARD and talk.messages == []
    talk.answer = Player()
    assert " X " in lines_of(talk, capsys, "5").out


def test_a_turn_without_an_end_ends_the_game_and_is_forgotten(capsys):
    talk = Talk(lambda messages: Turn([], fault="too many tokens in one turn"), keeps=True)
    shown = lines_of(talk, capsys, "What is 1 + 1?")
    assert "too many tokens in one turn" in shown.err and talk.messages == []
    lines_of(talk, capsys, "/play", "5")
    assert talk.game is None


def test_a_conversation_goes_on_only_if_it_is_asked_to(capsys):
    for keeps, expected in ((False, [1, 1]), (True, [1, 3])):
        asked = []

        def answer(messages, asked=asked):
            asked.append(len(messages))
            return Turn([assistant("Yes.")])

        talk = Talk(answer, keeps=keeps)
        lines_of(talk, capsys, "Is it?", "Is it?")
        assert asked == expected
        talk.hear("/new")
        assert talk.messages == []


def test_json_has_the_messages_of_each_turn(capsys):
    talk = Talk(lambda messages: Turn([assistant("\x1b[31mYes.")]), keeps=False, as_json=True)
    assert json.loads(lines_of(talk, capsys, "Is it?").out) == [assistant("\x1b[31mYes.")]
    talk = Talk(lambda messages: Turn([assistant("\x1b[31mYes.")]), keeps=False)
    assert lines_of(talk, capsys, "Is it?").out == "assistant  \\x1b[31mYes.\n"


def test_a_call_goes_to_the_first_tool_that_takes_it():
    tools = JoinedTools([ExpressionSession, BoardSession])
    assert tools.call("python", {"code": "6*7"}) == "42"
    assert tools.call("python", {"code": "board[1][1]='X'\nprint(board)"}) == "...\n.X.\n...\n"
    assert "division" not in tools.call("python", {"code": "1/0"})
    assert tools.call("python", {"code": "board[0][0]='O'\nprint(board)"})[:1] == "O"
    # Of a call that none takes, the reason is that of the tool that is in use.
    assert tools.call("python", {"code": "board[0][0]='O'"}) == "error: board[0][0] is taken"
    assert tools.call("python", {"code": "2*3"}) == "6"
    assert tools.call("python", {"code": "1/0"}) == "error: division by zero"
    assert JoinedTools([]).call("python", {"code": "1"}).startswith("error")


def test_the_board_is_drawn_with_its_result():
    game = Game("X")
    game.board = "XXXOO...."
    assert game.drawn.endswith(" 7 | 8 | 9\nX wins.") and game.is_over
    assert Game("O").with_move("")[1].startswith("Tic-tac-toe. You are X:")
    assert Game("O").board == EMPTY_BOARD
    assert user("x")["role"] == "user"


def test_a_pipe_gets_answers_line_by_line(tmp_path):
    model, renderer = trained_model()
    model.save_pretrained(tmp_path)
    renderer.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"weights": {"calculator": 1.0}}))
    done = subprocess.run(
        [sys.executable, "-m", "mixgen", "chat", str(tmp_path)],
        input=b"What is 2 plus 3?\n\n/wrong\nWhat is 7 - 4?\n\xff\xfe\n/quit\nnever\n",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stdout.decode().splitlines()[:6] == [
        *("call       2+3", "tool       5", "assistant  The answer is 5."),
        *("call       7-4", "tool       3", "assistant  The answer is 3."),
    ]
    assert "no command /wrong" in done.stderr.decode()
    assert "it/s" not in done.stderr.decode()  # no library's progress bar
