"""How a game of Nim is told: the words of both sides, and the calls between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mixgen.tasks.messages import Message, assistant, call, tool, user
from mixgen.tools.nim import (
    MAX_STONES,
    NUM_HEAPS,
    PRINT_BITS,
    PRINT_HEAPS,
    Game,
    Move,
    after,
    begun,
    render,
    render_bits,
    result,
)

ORDINALS: Final = ("first", "second", "third", "fourth")
# Each has as many tokens as the others, and so has each of the user's moves: games then go on at
# few positions, and a model of learned positions learns them sooner (a test counts them).
OPENINGS: Final = (
    "Let's play Nim with heaps of %s.",
    "I'd like Nim with heaps of %s stones.",
    "Nim with me: the heaps hold %s stones.",
    "Play Nim on heaps of %s.",
    "Who takes the last stone wins: the heaps hold %s.",
)
YOU_START: Final = ("You start.", "You move first.", "You go first.", "Your move.")
# What the user says of a move: {count} is 3, {stones} 3 stones, {number} the heap's, from 1, and
# {ordinal} third.
USERS_MOVES: Final = (
    "I take {count} from heap {number}",
    "I remove {stones} from heap {number}",
    "From heap {number} I take {count}",
    "Heap {number} loses {count}",
    "I take {count} from the {ordinal} heap. Your turn.",
    "From the {ordinal} heap I take {count}.",
)
_ALL_MOVES: Final = [
    (heap, count) for heap in range(NUM_HEAPS[1]) for count in range(1, MAX_STONES + 1)
]
# For each move the ways in which the user may say it, and for each of these the move.
SAYINGS: Final = {
    (heap, count): [
        saying.format(
            count=count,
            stones=f"{count} stone{'s' * (count > 1)}",
            number=heap + 1,
            ordinal=ORDINALS[heap],
        )
        for saying in USERS_MOVES
    ]
    for heap, count in _ALL_MOVES
}
MOVE_SAID: Final = {said: move for move, sayings in SAYINGS.items() for said in sayings}
TAKE: Final = {(heap, count): f"heaps[{heap}]-={count}\n" for heap, count in _ALL_MOVES}
I_TAKE: Final = {
    (heap, count): f"I take {count} from the {ORDINALS[heap]} heap." for heap, count in _ALL_MOVES
}


def opening_words(heaps: Sequence[int], move: Move | None, draw: Callable[[], float]) -> str:
    """What the user says first.

    Args:
        heaps: The heaps.
        move: The user's, which begins the game; none if the assistant begins.
        draw: Uniform numbers in [0, 1).
    """
    *others, last = map(str, heaps)
    told = OPENINGS[int(draw() * len(OPENINGS))] % f"{', '.join(others)} and {last}"
    if move is None:
        return f"{told} {YOU_START[int(draw() * len(YOU_START))]}"
    return f"{told} {said(move, draw)}"


def said(move: Move, draw: Callable[[], float]) -> str:
    """One of the ways in which the user may say a move."""
    sayings = SAYINGS[move]
    return sayings[int(draw() * len(sayings))]


def set_up_code(heaps: Sequence[int]) -> str:
    """Code that sets the heaps."""
    return f"heaps=[{','.join(map(str, heaps))}]\n"


def turn_messages(code: str, own: Move | None, game: Game) -> list[Message]:
    """The assistant's turn: it enters what the user has said, looks, and moves.

    Args:
        code: What sets the heaps, if that is still to be done, and makes the user's move, if any.
        own: Its own move; none if the user's has ended the game.
        game: The game after `code`.
    """
    messages = [call(code + PRINT_BITS), tool(render_bits(game))]
    if own is None:
        return [*messages, assistant("You win.")]
    game = after(game, own)
    return [
        *messages,
        call(TAKE[own] + PRINT_HEAPS),
        tool(render(game)),
        assistant(I_TAKE[own] + " I win." * bool(result(game))),
    ]


def tell(
    words: Sequence[str], heaps: Sequence[int], moves: Sequence[Move], assistant_starts: bool
) -> list[Message]:
    """The conversation of a finished game.

    Args:
        words: What the user says at each turn.
        heaps: What the game begins with.
        moves: Of both sides in turn.
        assistant_starts: Whose the first move is.
    """
    game = begun(tuple(heaps))
    messages = []
    code = set_up_code(heaps)
    to_come = list(moves)
    for turn, words_now in enumerate(words):
        if turn or not assistant_starts:
            users = to_come.pop(0)
            code += TAKE[users]
            game = after(game, users)
        own = to_come.pop(0) if to_come else None
        messages += [user(words_now), *turn_messages(code, own, game)]
        if own:
            game = after(game, own)
        code = ""
    return messages
