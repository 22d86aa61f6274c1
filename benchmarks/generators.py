"""Tries every generator of reasoning-gym as a task, and writes the table of docs/reasoning-gym.md.

python benchmarks/generators.py
"""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path
from typing import Final

from mixgen.errors import TaskError
from mixgen.tasks._reasoning_gym import PREFIX, generators
from mixgen.tasks._reasoning_gym_rules import EXACT, OWN_RULES
from mixgen.tasks.registry import task_class

PAGE: Final = Path(__file__).parent.parent / "docs/reasoning-gym.md"
BEGIN: Final = "## All of them\n"
NUM_DRAWS: Final = 1000
MAX_SECONDS: Final = 15  # for a generator's draws
HEAD: Final = (
    "| generator | examples/s | question | answer | distinct | judged by |\n"
    "|---|---:|---:|---:|---:|---|\n"
)


def row_of(generator: str) -> str:
    """A generator's row: what was measured, or why it is refused."""
    try:
        task = task_class(f"{PREFIX}:{generator}")()
    except TaskError as error:
        return f"| {generator} | refused | | | | {str(error).partition(': ')[2]} |\n"
    stream = task.stream(split="train", seed=42)
    next(stream)  # imports and the like
    begin = time.process_time()
    examples = []
    for example in itertools.islice(stream, NUM_DRAWS):
        examples.append(example)
        if (seconds := time.process_time() - begin) > MAX_SECONDS:
            break
    number = len(examples)
    question = statistics.fmean(len(one["messages"][0]["content"]) for one in examples)
    answer = statistics.fmean(len(one["answer"]) for one in examples)
    distinct = f"{len({one['key'] for one in examples}):,}"
    if number < NUM_DRAWS:
        distinct += f" of {number:,}"
    judge = "a rule of mixgen's" if generator in OWN_RULES else "the library"
    if generator in EXACT:
        judge = f"word for word: the library {EXACT[generator]}"
    speed = float(f"{number / seconds:.2g}")
    return (
        f"| {generator} | {speed:,g} | {question:,.0f} | {answer:,.0f} | {distinct} | {judge} |\n"
    )


def main() -> None:
    """Writes the table in the place of the one that is there."""
    rows = []
    for generator in generators():
        rows.append(row_of(generator))
        print(rows[-1], end="", flush=True)
    head = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(f"{head}{BEGIN}\n{HEAD}{''.join(rows)}", encoding="utf-8")


if __name__ == "__main__":
    main()
