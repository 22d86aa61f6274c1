"""Nim without XOR: a search over positions, a reader of the user's words, and a storyteller.

Heaps are tuples of numbers, moves pairs of a heap (from 0) and a number of stones.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import blake2b

from mixgen.tasks.messages import assistant, call, tool, user
from mixgen.tools.nim import NimSession

ORDINALS = ["first", "second", "third", "fourth"]


def moves_of(heaps):
    return [(heap, count) for heap in range(len(heaps)) for count in range(1, heaps[heap] + 1)]


def after(heaps, move):
    heap, count = move
    assert 1 <= count <= heaps[heap], (heaps, move)
    return tuple(held - count * (at == heap) for at, held in enumerate(heaps))


def is_won(heaps):
    """Whether who has the move wins: some move leaves a position that is not won."""
    return _is_won(tuple(sorted(held for held in heaps if held)))


@cache
def _is_won(heaps):
    return any(not is_won(after(heaps, move)) for move in moves_of(heaps))


@cache
def winning(heaps):
    return [move for move in moves_of(heaps) if not is_won(after(heaps, move))]


def policy(heaps):
    """The assistant's move: the first that wins, or that leaves most moves that do not win."""

    def mistakes(move):
        left = after(heaps, move)
        return len(moves_of(left)) - len(winning(left))

    most = max(map(mistakes, moves_of(heaps)))
    return (winning(heaps) or [move for move in moves_of(heaps) if mistakes(move) == most])[0]


def split_of_position(heaps):
    """The split that a position with the assistant to move asks for, by its hash."""
    held = sorted(held for held in heaps if held)
    if len(held) < 2 or sum(held) < 4:
        return "train"
    digest = blake2b(f"nim|{' '.join(map(str, held))}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return "test" if share < 0.1 else "validation" if share < 0.2 else "train"


# The user's words.


def move_read(words):
    """The move that the user says: the heap is told by a number after `heap`, or by an ordinal."""
    named = re.findall(r"[Hh]eap (\d+)", words)
    named += [ORDINALS.index(one) + 1 for one in re.findall(rf"({'|'.join(ORDINALS)}) heap", words)]
    (heap,) = named
    (count,) = re.findall(r"\d+", re.sub(r"[Hh]eap \d+", "", words))
    assert ("stones" in words, "stone" in words) in ((False, False), (int(count) > 1, True))
    return int(heap) - 1, int(count)


def opening_read(words):
    """The heaps that the user's first words tell of, and the user's move, if any."""
    told, start = re.fullmatch(r"(.*\d(?: stones)?\.) (.*)", words).groups()
    heaps = tuple(map(int, re.findall(r"\d+", told)))
    listed = ", ".join(map(str, heaps[:-1])) + f" and {heaps[-1]}"
    assert f" {listed}" in told
    asked = re.fullmatch(r"(You (start|move first|go first)|Your move)\.", start)
    return heaps, None if asked else move_read(start)


# The storyteller.


def say(move):
    return f"I take {move[1]} from the {ORDINALS[move[0]]} heap."


def users(move):
    return f"I take {move[1]} from heap {move[0] + 1}"


def told(first_words, moves, words=()):
    """The conversation of a game, with the outputs of the real tool.

    Args:
        first_words: The user's.
        moves: Of both sides in turn, the user's of the first words included.
        words: What the user says of each later move; where they give out, `users`.
    """
    heaps, start = opening_read(first_words)
    session = NimSession()
    messages = [user(first_words)]
    words = list(words)

    def run(*statements):
        code = "\n".join(statements)
        messages.extend((call(code), tool(session.call("python", {"code": code}))))

    entered = [f"heaps=[{','.join(map(str, heaps))}]"]
    is_users = start is not None
    for number, move in enumerate(moves):
        heap, count = move
        take = f"heaps[{heap}]-={count}"
        if is_users:
            if number:
                messages.append(user(words.pop(0) if words else users(move)))
            entered.append(take)
        else:
            run(*entered, "print(heaps.bits)")
            run(take, "print(heaps)")
            entered = []
        heaps = after(heaps, move)
        if not is_users:
            messages.append(assistant(say(move) + ("" if any(heaps) else " I win.")))
        is_users = not is_users
    if entered:
        run(*entered, "print(heaps.bits)")
        messages.append(assistant("You win."))
    return messages
