"""`loss_by_task.png`: loss against tokens, a line a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixgen.training.callbacks import tokens_text


def plot_losses(log_history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the logged losses.

    Args:
        log_history: The Trainer's, with `loss`, `loss/<task>` and `num_input_tokens_seen`.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    entries = [entry for entry in log_history if "loss" in entry]
    if not entries:
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    names = sorted({key for entry in entries for key in entry if key.startswith("loss/")})
    marker = "o" if len(entries) == 1 else ""
    for name in names:
        points = [
            (entry["num_input_tokens_seen"], entry[name]) for entry in entries if name in entry
        ]
        axes.plot(*zip(*points, strict=True), label=name.removeprefix("loss/"), marker=marker)
    if len(names) > 1:
        tokens = [entry["num_input_tokens_seen"] for entry in entries]
        axes.plot(
            tokens,
            [entry["loss"] for entry in entries],
            label="all",
            color="0.6",
            marker=marker,
            zorder=1,
        )
    axes.set(
        xlabel="tokens seen",
        ylabel="loss (nats per trained token)",
        yscale="log",
        title="Loss by task",
    )
    axes.xaxis.set_major_formatter(lambda tokens, _: tokens_text(tokens))
    axes.grid(which="both", alpha=0.2)
    axes.legend()
    figure.savefig(path, dpi=150)
