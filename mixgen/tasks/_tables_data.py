"""What the lists and tables of the task `tables` hold: topics, numbers and words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

Draw: TypeAlias = Callable[[], float]
Item = TypeVar("Item")


class Measure(NamedTuple):
    """A column of numbers: its header, and which numbers are sensible in it."""

    name: str
    max_digits: int = 3
    has_decimals: bool = True
    is_signed: bool = False


class Topic(NamedTuple):
    """What the rows of a table are, and what may be told of each."""

    header: str  # of the column of labels
    one: str
    many: str
    which: str
    labels: tuple[str, ...]
    category: str
    words: tuple[str, ...]  # of that category
    measures: tuple[Measure, ...]


TOPICS: Final = (
    Topic(
        "item",
        "item",
        "items",
        "which item",
        ("pen", "cup", "lamp", "bag", "hat", "book"),
        "color",
        ("red", "blue", "green", "black", "white"),
        (Measure("price"), Measure("weight"), Measure("stock", has_decimals=False)),
    ),
    Topic(
        "name",
        "person",
        "people",
        "who",
        ("Ann", "Bob", "Carla", "Dan", "Eva", "Finn"),
        "club",
        ("chess", "tennis", "music", "drama"),
        (Measure("score"), Measure("salary", has_decimals=False), Measure("age", 2, False)),
    ),
    Topic(
        "city",
        "city",
        "cities",
        "which city",
        ("Rome", "Oslo", "Lima", "Cairo", "Paris", "Delhi"),
        "weather",
        ("sunny", "cloudy", "rainy", "windy"),
        (Measure("temperature", 2, is_signed=True), Measure("rainfall"), Measure("humidity", 2)),
    ),
    Topic(
        "pet",
        "pet",
        "pets",
        "which pet",
        ("Rex", "Milo", "Luna", "Coco", "Otto", "Bella"),
        "kind",
        ("cat", "dog", "bird", "rabbit"),
        (Measure("weight"), Measure("speed"), Measure("age", 2, False)),
    ),
)


class Settings(Protocol):
    """What is read here of the task's `Config`."""

    max_digits: int
    max_decimals: int
    decimal_rate: float
    negative_rate: float
    min_numbers: int
    max_numbers: int
    min_rows: int
    max_rows: int
    min_columns: int
    max_columns: int


class Column(NamedTuple):
    """A list or a table's column: its cells as they are shown, and what they are drawn from."""

    name: str
    cells: list[str]
    words: Sequence[str] = ()  # for a column of words
    values: Sequence[int] = ()  # for numbers: value / 10**decimals
    decimals: int = 0
    is_signed: bool = False


class Condition(NamedTuple):
    """What the cells of a column have to be: `price`, `>=`, `2.5`."""

    column: Column
    comparison: str
    against: str


class Table(NamedTuple):
    """A table: its topic, and its columns, of which the first holds the labels."""

    topic: Topic
    columns: list[Column]


def pick(draw: Draw, items: Sequence[Item]) -> Item:
    """Any of the items."""
    return items[int(draw() * len(items))]


def between(draw: Draw, low: int, high: int) -> int:
    """Any whole number from `low` to `high`."""
    return low + int(draw() * (high - low + 1))


def distinct(draw: Draw, items: Sequence[Item], count: int) -> list[Item]:
    """So many of the items, in random order."""
    pool = list(items)
    for at in range(count):
        other = at + int(draw() * (len(pool) - at))
        pool[at], pool[other] = pool[other], pool[at]
    return pool[:count]


def show(value: int, decimals: int) -> str:
    """How `value / 10**decimals` is written.

    Example:
        >>> show(1250, 2), show(-1200, 2), show(7, 0)
        ('12.5', '-12', '7')
    """
    if not decimals:
        return str(value)
    whole, rest = divmod(abs(value), 10**decimals)
    text = f"{whole}.{rest:0{decimals}}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 else text


def draw_numbers(draw: Draw, count: int, measure: Measure, settings: Settings) -> Column:
    """A column of numbers, of the same digits at most before and after the point."""
    most_digits = min(measure.max_digits, settings.max_digits)
    most_decimals = settings.max_decimals if measure.has_decimals else 0
    has_decimals = most_decimals and draw() < settings.decimal_rate
    decimals = 1 + int(draw() * most_decimals) if has_decimals else 0
    is_signed = measure.is_signed and draw() < settings.negative_rate
    top = 10 ** (1 + int(draw() * most_digits) + decimals)
    values = [int(draw() * top) for _ in range(count)]
    if is_signed:
        values = [-value if draw() < 0.5 else value for value in values]
    cells = [show(value, decimals) for value in values]
    return Column(measure.name, cells, (), values, decimals, is_signed)


def draw_condition(draw: Draw, column: Column) -> Condition:
    """A condition on a column: a word of it, or a bound that is one of its numbers or near one."""
    if column.words:
        return Condition(column, "==", pick(draw, column.words))
    against = pick(draw, column.values)
    if draw() < 0.5:
        near = against + int((draw() * 20 - 10) * 10**column.decimals)
        against = near if near >= 0 or column.is_signed else against
    return Condition(column, pick(draw, (">", "<", ">=", "<=")), show(against, column.decimals))


def draw_table(draw: Draw, settings: Settings) -> Table:
    """A table of labels and numbers, with a column of words or more numbers if it has three."""
    topic = pick(draw, TOPICS)
    num_rows = between(draw, settings.min_rows, settings.max_rows)
    num_columns = between(draw, settings.min_columns, settings.max_columns)
    has_words = num_columns == 3 and draw() < 0.7
    measures = distinct(draw, topic.measures, num_columns - 1 - has_words)
    columns = [draw_numbers(draw, num_rows, measure, settings) for measure in measures]
    if has_words:
        words = distinct(draw, topic.words, 3)
        cells = [pick(draw, words) for _ in range(num_rows)]
        columns.insert(int(draw() * 2), Column(topic.category, cells, words))
    labels = distinct(draw, topic.labels, num_rows)
    return Table(topic, [Column(topic.header, labels, labels), *columns])
