"""Examples to tokens: the fast renderer is the chat template, and what may be learned is what is
marked.
"""

from __future__ import annotations

import itertools
import pickle
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mixgen import RecipeError
from mixgen.encoding.preview import render_example
from mixgen.encoding.renderer import IGNORED, Renderer
from mixgen.encoding.tokenizer import OUTPUT_START, SPECIAL_TOKENS, texts, train_tokenizer
from mixgen.recipe import parse_recipe
from mixgen.tasks.base import Task, assistant, call, tool, user
from mixgen.tasks.registry import registered_tasks

RECIPES = Path(__file__).parent.parent / "recipes"
TASKS = sorted(registered_tasks())


def example_of(messages):
    return {"messages": messages}


def template(tokenizer, messages):
    out = tokenizer.apply_chat_template(
        messages, return_assistant_tokens_mask=True, return_dict=True
    )
    return out["input_ids"], out["assistant_masks"]


@pytest.mark.parametrize("name", TASKS)
def test_renderer_gives_ids_and_mask_of_the_chat_template(name, tokenizer, renderer):
    stream = registered_tasks()[name]().stream(split="train", seed=11)
    for example in itertools.islice(stream, 5_000):
        encoded = renderer.encode(example)
        ids, mask = template(tokenizer, example["messages"])
        assert encoded.input_ids.tolist() == ids
        assert [int(label != IGNORED) for label in encoded.labels] == mask
        assert all(label in (IGNORED, token) for token, label in zip(*encoded, strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_pieces_encode_as_the_tokenizer_itself_encodes(name, tokenizer, renderer):
    stream = registered_tasks()[name]().stream(split="test", seed=12)
    for example in itertools.islice(stream, 300):
        for text in texts(example):
            assert renderer.text_ids(text) == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\n  \t",
        "naïve ×÷ 日本語 🙂 \x00 \u2028",
        "ABC DEF.GHI 12.34.56",
        "board[[[]]]=='\"'",
        "a" * 5_000,
        "3**-4//(5)%% + +",
        "x\r\ny . .",
    ],
)
def test_any_text_can_be_encoded_and_read_back(text, tokenizer, renderer):
    ids = renderer.text_ids(text)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_memory_of_texts_that_were_met_stays_bounded(tokenizer, mix, monkeypatch):
    monkeypatch.setattr("mixgen.encoding.renderer.MAX_CACHED", 50)
    small = Renderer(tokenizer)
    examples = itertools.islice(mix.tasks[0].stream(split="train", seed=3), 200)
    assert all(len(small.encode(example).input_ids) > 10 for example in examples)
    caches = [small._pieces, *small._segments.values()]
    assert max(map(len, caches)) == 50


def test_a_number_is_cut_into_pairs_of_digits_from_its_start(renderer, tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(renderer.text_ids("What is 12345.678 + 90?"))
    digits = [token for token in tokens if any(c in "0123456789" for c in token)]
    assert digits == ["12", "34", "5", "67", "8", "90"]
    pairs = {f"{number:02}" for number in range(100)}
    assert pairs <= tokenizer.get_vocab().keys()
    # Moves alone put more digits together, with what stands between them.
    several = [token for token in tokenizer.get_vocab() if len(re.findall("[0-9]", token)) > 1]
    stones = [f"board[{cell // 3}][{cell % 3}]='{mark}'" for cell in range(9) for mark in "XO"]
    prints = ("print(board)", "print(board.lines)")
    moves = {f"{stone}Ċ{shown}" for stone in stones for shown in prints}
    assert pairs | moves <= set(several)
    assert all(token.startswith("board[") for token in set(several) - pairs)


def test_a_phrase_is_one_token(renderer):
    phrases = (
        "top left",
        "bottom right",
        "The answer is ",
        " divided by ",
        "I play center.",
        " I win.",
        "cos(",
        " You play O:\n",
    )
    for text in phrases:
        assert len(renderer.text_ids(text)) == 1, text


@pytest.mark.parametrize("seed", [42, 43, 44])
@pytest.mark.parametrize("name", ["default", "quickstart"])
def test_whatever_lies_on_a_board_it_takes_as_many_tokens(name, seed):
    # A rare row of two tokens would move all that follows it to positions hardly met.
    recipe = parse_recipe([str(RECIPES / f"{name}.yaml")], {"calculator": 1.0, "tictactoe": 0.5})
    renderer = Renderer(train_tokenizer(recipe.schedule.active, seed=seed))
    rows = {"".join(row) for row in itertools.product(".XO", repeat=3)} - {"XXX", "OOO"}
    ends = ("\n", "\n", "\nprint(board.lines)")
    set_rows = [f"board[{row}]='{cells}'{end}" for row, end in enumerate(ends) for cells in rows]
    stones = [f"board[{r}][{c}]='{m}'" for r, c, m in itertools.product(range(3), range(3), "XO")]
    prints = ("print(board.lines)", "print(board)")  # after the user's, and after one's own
    moves = [f"{stone}\n{shown}" for stone in stones for shown in prints]
    shown = [f"{cells}\n" for cells in rows | {"XXX", "OOO"}]
    long = [text for text in set_rows + moves + shown if len(renderer.text_ids(text)) > 1]
    assert (len(set_rows), long) == (75, [])


def test_the_board_to_move_on_is_printed_at_one_of_five_places(renderer):
    # Each place is one more for learned positions to learn (docs/architecture.md).
    games = registered_tasks()["tictactoe"]().stream(split="train", seed=5)
    start = renderer.special[OUTPUT_START]
    places = Counter()
    for game in itertools.islice(games, 3_000):
        ids = renderer.encode(game).input_ids.tolist()
        places.update(at for at, token in enumerate(ids) if token == start)
    assert len(places) == 5 + 5  # with the assistant to move, and after its move


class Prose(Task):
    """Sentences that never come twice, of 160 words."""

    name = "prose"
    flag = "prs"

    def sample(self, rng):
        text = " ".join(f"wo{letters}d" for letters in rng.choices(LETTERS, k=12))
        messages = [user(f"Say {text}"), assistant(text)]
        return self.example(key=text, messages=messages, answer=text)


LETTERS = ["".join(pair) for pair in itertools.product("bcdfghjklmnpqrst", "aeiouyvwxz")]


def test_of_phrases_that_are_rare_the_words_are_learned():
    prose = train_tokenizer((Prose(),), seed=1)
    words = [prose.decode([number]) for number in range(len(prose))]
    assert sum(word in words for word in (f" wo{letters}d" for letters in LETTERS)) == 160
    assert not [word for word in words if re.search(r"\S \S", word)]


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_no_special_token_comes_out_of_text(token, renderer):
    special = set(renderer.special.values())
    for text in (token, f"What is {token}?", f" {token}{token} "):
        assert not special & set(renderer.text_ids(text))
        messages = [user(text), call(text), tool(text), assistant(text)]
        encoded = renderer.encode(example_of(messages))
        assert (
            sum(i in special for i in encoded.input_ids) == 9
        )  # the ones that the messages are framed with


def test_exactly_the_assistants_tokens_are_trained_on(renderer):
    messages = [user("What is 1+2?"), call("1+2"), tool("3"), assistant("The answer is 3.")]
    marked = render_example(example_of(messages), renderer)
    assert marked == (
        "<|bos|><|user_start|>What is 1+2?<|user_end|><|assistant_start|>"
        "«<|python_start|>1+2<|python_end|>»"
        "<|output_start|>3<|output_end|>«The answer is 3.<|assistant_end|>»"
    )


def test_calls_of_other_tools_are_written_with_their_name(renderer, tokenizer):
    other = call("x")
    other["tool_calls"][0]["function"] = {"name": "lookup", "arguments": {"word": "naïve", "n": 2}}
    messages = [user("?"), other, tool("1"), assistant("1")]
    assert 'lookup({"word": "naïve", "n": 2})' in render_example(example_of(messages), renderer)
    assert (
        renderer.encode(example_of(messages)).input_ids.tolist() == template(tokenizer, messages)[0]
    )


def test_what_stands_beside_the_code_of_a_call_is_not_lost(renderer, tokenizer):
    more = call("x")
    more["tool_calls"][0]["function"]["arguments"] = {"code": "1+2", "n": 2}
    messages = [user("?"), more, tool("3"), assistant("3")]
    assert 'python({"code": "1+2", "n": 2})' in render_example(example_of(messages), renderer)
    ids = template(tokenizer, messages)[0]
    assert renderer.encode(example_of(messages)).input_ids.tolist() == ids


def test_generation_prompt_opens_the_assistants_turn(tokenizer):
    ids = tokenizer.apply_chat_template([user("Hi")], add_generation_prompt=True)["input_ids"]
    assert tokenizer.decode(ids) == "<|bos|><|user_start|>Hi<|user_end|><|assistant_start|>"


def test_tokenizer_is_the_same_in_every_process_and_for_every_weight(mix, tokenizer):
    program = (
        "from mixgen import configure_mix; from mixgen.encoding.tokenizer import train_tokenizer;"
        "mix = configure_mix(tictactoe=9.0, calculator=0.1);"
        "print(train_tokenizer(mix.active[::-1], seed=42).backend_tokenizer.to_str(), end='')"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": ".",
                "HF_HUB_OFFLINE": "1",
                "RAYON_NUM_THREADS": hash_seed,
            },
        )
        assert done.stdout == tokenizer.backend_tokenizer.to_str()


def test_saved_tokenizer_loads_with_auto_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    messages = [user("What is 1+2?"), call("1+2"), tool("3"), assistant("The answer is 3.")]
    assert template(loaded, messages) == template(tokenizer, messages)
    assert loaded.model_max_length == 1024
    ids = template(loaded, messages)[0]
    assert loaded.decode(ids, skip_special_tokens=True) == "What is 1+2?1+23The answer is 3."


def test_renderer_follows_a_foreign_tokenizer(mix):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    corpus = [
        text
        for e in itertools.islice(mix.active[0].stream(split="train", seed=1), 200)
        for text in texts(e)
    ]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet)
    )
    foreign = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(RecipeError, match="lacks"):
        Renderer(foreign)
    from mixgen.training.model import add_chat_tokens

    add_chat_tokens(foreign)
    renderer = Renderer(foreign)
    for guarded in (renderer, pickle.loads(pickle.dumps(renderer))):  # noqa: TID251
        assert not set(guarded.special.values()) & set(guarded.text_ids("What is <|bos|>?"))
    for task in mix.active:
        for example in itertools.islice(task.stream(split="train", seed=2), 200):
            ids, mask = template(foreign, example["messages"])
            encoded = renderer.encode(example)
            assert encoded.input_ids.tolist() == ids
            assert [int(label != IGNORED) for label in encoded.labels] == mask


def test_a_small_vocabulary_still_encodes_everything(mix):
    small = train_tokenizer(mix.active, seed=1, vocab_size=300, examples_per_task=50)
    assert len(small) <= 300
    assert small.decode(Renderer(small).text_ids("Tic-tac-toe. 12")) == "Tic-tac-toe. 12"
