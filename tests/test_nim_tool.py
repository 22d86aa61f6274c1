"""The referee of Nim, held to another one here, to attacks and to arbitrary text."""

from __future__ import annotations

import itertools
import json
import random
import time

import pytest
from attacks import ATTACKS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixgen.tasks.nim import Nim
from mixgen.tools.nim import MAX_SOURCE_CHARS, NIM_SCHEMA, PRINTS, NimSession

SHOW, BITS = "print(heaps)", "print(heaps.bits)"


def run(session, *statements):
    return session.call("python", {"code": "\n".join(statements)})


def after(*statements):
    session = NimSession()
    assert not run(session, *statements).startswith("error")
    return session


def assert_refused(session, code, reason=""):
    before = session.game
    began = time.perf_counter()
    output = session.call("python", {"code": code})
    assert time.perf_counter() - began < 1
    assert output.startswith("error: "), (code[:100], output)
    assert reason in output
    assert session.game == before


# What is printed, against a picture of the heaps drawn here.


def picture(heaps, columns):
    """Each heap as a sum of powers of two, and which powers an odd number of heaps has."""
    powers = [2**power for power in reversed(range(columns))]
    rows = []
    for held in heaps:
        row = ""
        for power in powers:
            row += "X" if held >= power else "."
            held -= power if held >= power else 0
        assert held == 0
        rows.append(row)
    odd = ["X" if [row[at] for row in rows].count("X") % 2 else "." for at in range(columns)]
    return ["".join(odd), *rows]


def test_every_position_of_up_to_three_heaps_is_shown_in_numbers_and_in_bits():
    for most, columns in ((7, 3), (15, 4)):
        tried = 0
        for heaps in itertools.product(range(1, most + 1), repeat=3):
            if most == 15 and max(heaps) <= 7:
                continue
            session = after(f"heaps=[{','.join(map(str, heaps))}]")
            assert run(session, SHOW) == " ".join(map(str, heaps)) + "\n"
            assert run(session, BITS).split("\n") == [*picture(heaps, columns), ""]
            tried += 1
        assert tried > 300


def test_the_columns_of_bits_stay_while_the_heaps_shrink():
    session = after("heaps=[8,3]", "heaps[0]-=7")
    assert run(session, BITS) == "..X.\n...X\n..XX\n"
    session = after("heaps=[7,3]", "heaps[0]-=6")
    assert run(session, BITS) == ".X.\n..X\n.XX\n"


def test_a_game_goes_on_from_call_to_call_and_its_last_mover_is_the_winner():
    session = after("heaps=[3,5,7]")
    assert run(session, "heaps[1]-=3", SHOW) == "3 2 7\n"
    assert run(session, "heaps[2]-=7", SHOW, "heaps[0]-=1", BITS) == "3 2 0\n\n...\n.X.\n.X.\n...\n"
    assert run(session, "heaps[0]-=2", SHOW) == "0 2 0\n"
    assert run(session, "heaps[1]-=2", SHOW) == "0 0 0\nfirst player wins"
    assert run(session, BITS) == "...\n...\n...\n...\nfirst player wins"
    assert (
        run(after("heaps=[1,1]", "heaps[1]-=1", "heaps[0]-=1"), SHOW) == "0 0\nsecond player wins"
    )
    assert NimSession().game is None


def test_who_wins_any_random_game_is_who_took_the_last_stone():
    draw = random.Random(0)
    for _ in range(500):
        heaps = [draw.randint(1, 15) for _ in range(draw.randint(2, 4))]
        session = after(f"heaps={heaps}".replace(" ", ""))
        player = 1
        while sum(heaps):
            heap = draw.choice([at for at, held in enumerate(heaps) if held])
            take = draw.randint(1, heaps[heap])
            heaps[heap] -= take
            shown = run(session, f"heaps[{heap}]-={take}", SHOW).split("\n")
            assert shown[0].split() == [str(held) for held in heaps]
            if not sum(heaps):
                assert shown[1] == ("first", "second")[player - 1] + " player wins"
            else:
                assert shown[1] == ""
            player = 3 - player


def test_the_schema_names_every_print():
    assert all(one in json.dumps(NIM_SCHEMA) for one in PRINTS)
    assert set(PRINTS) == {SHOW, BITS}
    assert Nim.schemas == [NIM_SCHEMA]


# What is refused.


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["heaps[1]-=3"], "heaps[1] holds 2"),
        (["heaps[0]-=15"], "heaps[0] holds 3"),
        (["heaps[3]-=1"], "there is no heaps[3]"),
        (["heaps[9]-=1"], "there is no heaps[9]"),
        (["heaps[1]-=2", "heaps[1]-=1"], "heaps[1] holds 0"),
        (["heaps=[3,5,7]"], "the heaps are there already"),
        (["heaps[0]-=3", "heaps[1]-=2", "heaps[2]-=7", "heaps[2]-=1"], "the game is over"),
        ([SHOW, "heaps[0]-=1", SHOW, "foo"], "not a statement; allowed are"),
        ([f"{SHOW}\n" * 30], f"above {MAX_SOURCE_CHARS} characters"),
    ],
)
def test_a_call_with_an_illegal_statement_changes_nothing_and_says_why(statements, reason):
    session = after("heaps=[3,2,7]")
    assert_refused(session, "\n".join(statements), reason)
    assert run(session, SHOW) == "3 2 7\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (SHOW, "there are no heaps yet"),
        (BITS, "there are no heaps yet"),
        ("heaps[0]-=1", "there are no heaps yet"),
        ("heaps=[3]", "2 to 4 heaps of 1 to 15 stones"),
        ("heaps=[1,2,3,4,5]", "2 to 4 heaps of 1 to 15 stones"),
        ("heaps=[16,1]", "2 to 4 heaps of 1 to 15 stones"),
        ("heaps=[1,99]", "2 to 4 heaps of 1 to 15 stones"),
        ("heaps=[3,5]\nheaps=[3,5]", "the heaps are there already"),
        ("heaps=[0,5]", "not a statement"),
        ("heaps=[]", "not a statement"),
        ("heaps=[3,,5]", "not a statement"),
        ("heaps=[3,5,]", "not a statement"),
        ("heaps=[3, 5]", "not a statement"),
        ("heaps=[-3,5]", "not a statement"),
        ("heaps=[03,5]", "not a statement"),
        ("heaps=(3,5)", "not a statement"),
        ("heaps = [3,5]", "not a statement"),
        ("heaps=[3,1" + "0" * 300 + "]", "above"),
    ],
)
def test_heaps_that_are_none_and_moves_without_heaps_are_refused(code, reason):
    session = NimSession()
    assert_refused(session, code, reason)
    assert run(session, "heaps=[15,1,2,3]", SHOW) == "15 1 2 3\n"


@pytest.mark.parametrize(
    "code",
    [
        *("", "\n", "heaps", "print()", "print(heaps) ", " print(heaps)", "print(heaps)\n"),
        *("print(heaps)\r\nprint(heaps)", "print(heaps);print(heaps)", "PRINT(heaps)"),
        *(
            "print(bits)",
            "print(heaps.bits())",
            "print(heaps.sum)",
            "heaps.bits",
            "print(heaps[0])",
        ),
        *("heaps[0]-=0", "heaps[0]-=-1", "heaps[0]-=01", "heaps[0]-=100", "heaps[0]-=1.0"),
        *("heaps[0]+=1", "heaps[0]=1", "heaps[0]-= 1", "heaps[0] -=1", "heaps[-1]-=1"),
        *("heaps[00]-=1", "heaps[10]-=1", "heaps[0]-=1 ", "heaps[0]-=x", "heaps[0]-=heaps[1]"),
        *("heaps[０]-=1", "heaps[0]-=１", "heaps[٠]-=1", "heaps[0]-=1\x00", "heaps[0][0]-=1"),
        *("heaps[0]-=1;heaps[1]-=1", "del heaps", "import os", "heaps.clear()", "heaps.__class__"),
        *("x" * 257, "(" * 1_000_000, "heaps[0]-=1\n" * 1_000_000),
    ],
    ids=lambda code: ascii(code[:30]),
)
def test_what_is_no_statement_is_refused_quickly_and_changes_nothing(code):
    assert_refused(NimSession(), code)
    assert_refused(after("heaps=[3,5,7]", "heaps[1]-=1"), code)


def test_every_attack_is_refused_quickly_and_changes_nothing():
    attacks = list(itertools.chain.from_iterable(ATTACKS.values()))
    assert len(attacks) > 200
    session = after("heaps=[3,5,7]")
    for attack in attacks:
        assert_refused(session, attack)
        assert_refused(session, f"heaps[0]-=1\n{attack}")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("python", given) for given in ({}, None, "heaps=[3,5]", ["code"], 7)),
        *(("python", {"code": given}) for given in (None, 7, ["heaps=[3,5]"], {}, b"heaps=[3,5]")),
        *((name, {"code": "heaps=[3,5]"}) for name in ("bash", "", "Python", None, ["python"])),
    ],
)
def test_another_tool_and_arguments_without_code_give_an_error_text(name, arguments):
    assert NimSession().call(name, arguments) == "error: the only tool is python(code)"


STATEMENTS = st.one_of(
    st.tuples(st.integers(0, 4), st.integers(0, 9)).map(
        lambda move: f"heaps[{move[0]}]-={move[1]}"
    ),
    st.lists(st.integers(0, 17), max_size=5).map(lambda held: f"heaps={held}".replace(" ", "")),
    st.sampled_from([SHOW, BITS]),
    st.text("heaps[]0123456789-=.bits()print, \n", max_size=20),
    st.text(max_size=20),
    st.sampled_from(sorted(itertools.chain.from_iterable(ATTACKS.values()))),
)


@settings(max_examples=300, deadline=None)
@example(["heaps=[3,5]\nheaps[0]-=3", "heaps[1]-=5\nprint(heaps)"])
@given(st.lists(st.lists(STATEMENTS, max_size=4).map("\n".join), max_size=12))
def test_no_sequence_of_calls_breaks_the_heaps_or_their_rules(codes):
    session = NimSession()
    for code in codes:
        before = session.game
        output = session.call("python", {"code": code})
        assert isinstance(output, str)
        assert len(output) < 1000
        if output.startswith("error: "):
            assert session.game == before
        elif session.game and before:
            assert all(
                0 <= new <= old for new, old in zip(session.game.heaps, before.heaps, strict=True)
            )
            assert session.game.num_moves >= before.num_moves
        if session.game:
            assert 2 <= len(session.game.heaps) <= 4
            assert 0 <= min(session.game.heaps) <= max(session.game.heaps) <= 15


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_no_text_raises(text):
    assert isinstance(NimSession().call("python", {"code": text}), str)
