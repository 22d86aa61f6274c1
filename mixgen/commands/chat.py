"""`mixgen chat`: talk to a trained model, with its tools really run, and play against it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mixgen.commands.console import make_console, say
from mixgen.errors import RecipeError, nearest, printable
from mixgen.tools.session import JoinedTools

if TYPE_CHECKING:
    from rich.console import Console

    from mixgen.commands.play import Game
    from mixgen.tasks.messages import Message
    from mixgen.tasks.trial import Turn

HELP: Final = (
    "Each line is a conversation of its own (with --multi-turn, one goes on: /new begins another). "
    "/play X or /play O plays tic-tac-toe, /help shows this, /quit or Ctrl-D ends."
)
GAME: Final = "tictactoe"
COMMANDS: Final = ("/play", "/new", "/help", "/quit")
STYLES: Final = {"call": "green", "tool": "yellow", "assistant": "bold"}


def chat(
    checkpoint: Annotated[str, typer.Argument(help="A run's folder, a checkpoint, or a Hub name.")],
    tasks: Annotated[
        str | None,
        typer.Option(help="Whose tools it may call; by default those of its recipe, else all."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Where tasks have their settings; by default the folder's.")
    ] = None,
    multi_turn: Annotated[
        bool, typer.Option("--multi-turn", help="Go on with one conversation, line after line.")
    ] = False,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="0: the likeliest token; else 0.01 to 100.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampling at a temperature.")] = 42,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Most tokens in a turn.")] = 256,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each turn's messages as JSON, a line each.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python that comes with the model.")
    ] = False,
) -> None:
    """Talk to a trained model: lines from the keyboard or a pipe, tool calls shown as they ran.

    Example: echo "What is 12 plus 30?" | mixgen chat outputs/quickstart
    """
    from mixgen.commands.evaluate import check_temperature, on_gpu, tasks_to_try

    check_temperature(temperature)
    chosen = tasks_to_try(checkpoint, recipe, tasks, trust_remote_code)
    say("Loading ...")
    from mixgen.encoding.renderer import Renderer
    from mixgen.evaluation.generation import Generator
    from mixgen.evaluation.loading import load_checkpoint

    model, tokenizer = load_checkpoint(checkpoint, trust_remote_code=trust_remote_code)
    model = on_gpu(model)
    generator = Generator(
        model,
        Renderer(tokenizer),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )

    def answer(messages: Sequence[Message]) -> Turn:
        makers = [task.tools for task in chosen]
        return generator.turns([messages], lambda: JoinedTools(makers))[0]

    can_play = any(task.name == GAME for task in chosen)
    talk = Talk(answer, keeps=multi_turn, as_json=as_json, can_play=can_play)
    if sys.stdin.isatty():
        say(f"{checkpoint}: {', '.join(task.name for task in chosen)}. {HELP}")
    while (line := _read()) is not None:
        if line.strip() == "/quit":
            break
        try:
            if line.strip():
                talk.hear(line.strip())
        except RecipeError as error:
            say(f"error: {error}")
        except KeyboardInterrupt:
            say("\nStopped; the turn is forgotten.")


def _read() -> str | None:
    """The next line; None at the end."""
    if not sys.stdin.isatty():
        return sys.stdin.readline() or None
    import readline  # noqa: F401 - lines can be edited, and come back

    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):
        print()
        return None


class Talk:
    """What a person and a model have said, and the game that they play.

    Args:
        answer: Gives the model's turn in a conversation that ends with a person's words.
        keeps: Whether one conversation goes on.
        as_json: Whether to print messages as JSON.
        can_play: Whether the model's tasks have the game.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Message]], Turn],
        *,
        keeps: bool,
        as_json: bool = False,
        can_play: bool = True,
    ) -> None:
        self.answer = answer
        self.keeps = keeps
        self.as_json = as_json
        self.can_play = can_play
        self.messages: list[Message] = []
        self.game: Game | None = None

    def hear(self, line: str) -> None:
        """Takes one line of a person.

        Raises:
            RecipeError: It is no command, or no move.
        """
        if not line.startswith("/"):
            if self.game:
                self._move(self.game, line)
            else:
                if not self.keeps:
                    self.messages = []
                self._ask(line)
            return
        command, _, rest = line.partition(" ")
        if command == "/play":
            self._play(rest.strip().upper() or "X")
        elif command == "/new":
            self.messages, self.game = [], None
        elif command == "/help":
            say(HELP)
        else:
            raise RecipeError(f"no command {command}: {nearest(command, COMMANDS)}")

    def _ask(self, words: str) -> bool:
        """Puts words to the model; whether it came to an end with its turn."""
        from mixgen.tasks.messages import user

        asked = [*self.messages, user(words)]
        turn = self.answer(asked)
        self._show(turn)
        if turn.fault:
            say(f"(no whole turn: {turn.fault})")
            return False
        self.messages = [*asked, *turn.messages]
        return True

    def _show(self, turn: Turn) -> None:
        if self.as_json:
            print(json.dumps(turn.messages, ensure_ascii=False), flush=True)
            return
        from mixgen.evaluation.results import call_text_of

        console = make_console()
        for message in turn.messages:
            for made in message["tool_calls"]:
                _print(console, "call", call_text_of(made))
            if message["content"] or not message["tool_calls"]:
                _print(console, message["role"], message["content"])

    def _play(self, mark: str) -> None:
        from mixgen.commands.play import HINT, Game

        if not self.can_play:
            raise RecipeError(
                f"{GAME} is none of the model's tasks: --tasks {GAME} tries it anyway"
            )
        self.messages, self.game = [], Game(mark)
        say(HINT)
        if self.game.is_persons_turn:
            self._draw(self.game)
        else:
            self._move(self.game, "")

    def _draw(self, game: Game) -> None:
        if not self.as_json:
            print(game.drawn, flush=True)

    def _move(self, game: Game, move: str) -> None:
        board, words = game.with_move(move)
        if not self._ask(words):
            self.game = None
            say("The game is over: /play begins another.")
            return
        game.board = board
        fault = game.follow(self.messages)
        self._draw(game)
        if fault or game.is_over:
            self.messages, self.game = [], None
            say(f"The game is over{': ' if fault else ''}{fault}. /play begins another.")


def _print(console: Console, speaker: str, text: str) -> None:
    from rich.text import Text

    style = STYLES.get(speaker, "")
    for number, line in enumerate(printable(text).split("\n")):
        console.print(Text(f"{speaker if number == 0 else '':9}  {line}".rstrip(), style=style))
