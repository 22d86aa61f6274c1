"""The plots of a run, or of several on one: loss by task and skill, over tokens."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mixgen.evaluation.run_files import Run
from mixgen.training.callbacks import tokens_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = ("-", "--", ":", "-.")  # a task each, where colours are runs


def loss_figure(runs: Sequence[Run]) -> Figure | None:
    """Loss against tokens: a line a task and, of several runs, a colour a run; None without any."""
    figure, axes = _figure()
    keys = {key for run in runs for entry in run.losses for key in entry}
    tasks = sorted(key for key in keys if key.startswith("loss/"))
    for number, run in enumerate(runs):
        for style, key in enumerate(tasks):
            points = [(e["num_input_tokens_seen"], e[key]) for e in run.losses if key in e]
            _line(axes, points, runs, number, style, key.removeprefix("loss/"))
    axes.set(ylabel="loss (nats per trained token)", yscale="log", title="Loss by task")
    return _finished(figure, axes)


def skill_figure(runs: Sequence[Run]) -> Figure | None:
    """The metric `exact` against tokens, as evaluated during training; None without any."""
    figure, axes = _figure()
    skills = [run.skill() for run in runs]
    tasks = sorted(set().union(*skills))
    for number, skill in enumerate(skills):
        for style, task in enumerate(tasks):
            percents = [(tokens, 100 * share) for tokens, share in skill.get(task, [])]
            _line(axes, percents, runs, number, style, task)
    axes.set(ylabel="metric exact (%)", ylim=(-2, 102), title="Skill")
    return _finished(figure, axes)


def as_svg(figure: Figure | None) -> str:
    """A figure as an SVG element to stand in a page."""
    if figure is None:
        return ""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    _, start, rest = text.getvalue().partition("<svg")  # without the XML declaration
    return start + rest


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(8, 4), layout="constrained")
    return figure, figure.subplots()


def _line(
    axes: Axes,
    points: Sequence[tuple[int, float]],
    runs: Sequence[Run],
    number: int,
    style: int,
    task: str,
) -> None:
    if not points:
        return
    several = len(runs) > 1
    label = f"{runs[number].name}: {task}" if several else task
    axes.plot(
        *zip(*points, strict=True),
        label=label.replace("$", r"\$"),  # else it is a formula
        color=f"C{number if several else style}",
        linestyle=STYLES[style % len(STYLES)] if several else "-",
        marker="o" if len(points) < 30 else "",
        markersize=3,
    )


def _finished(figure: Figure, axes: Axes) -> Figure | None:
    if not axes.lines:
        return None
    axes.set(xlabel="tokens trained on")
    axes.xaxis.set_major_formatter(lambda tokens, _: tokens_text(tokens))
    axes.grid(which="both", alpha=0.2)
    labels = [str(line.get_label()) for line in axes.lines]
    axes.legend(axes.lines, labels, fontsize="small")  # which would leave out `_name`
    return figure
