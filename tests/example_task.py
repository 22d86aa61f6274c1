"""A task of a user's own, as a template: replace NAME and FLAG."""

TASK = '''
import dataclasses

from mixgen.tasks.base import Score, Task, assistant, user
from mixgen.tasks.registry import register


@register
class Parity(Task):
    """Is a number odd or even?"""

    name = "NAME"
    flag = "FLAG"

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        largest: int = 99_999

    def sample(self, rng):
        number = rng.randrange(self.config.largest + 1)
        answer = "odd" if number % 2 else "even"
        messages = [user(f"Is {number} odd or even?"), assistant(answer)]
        return self.example(key=str(number), messages=messages, answer=answer)

    def score(self, example, reply):
        return Score(value=float(reply[-1]["content"] == example["answer"]))
'''
