"""A run -> `report.html`, one file that opens offline, and `README.md`, the model card.

Both are made of what the run has left in its folder (see `run_files`), so they can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from mixgen.cards import CARD_FILE, NAME, card_text, merged_card, naming, read_card
from mixgen.errors import printable
from mixgen.evaluation.plots import as_svg, loss_figure, skill_figure
from mixgen.evaluation.results import (
    call_text_of,
    metric_rows,
    percent,
)
from mixgen.evaluation.run_files import Run, read_run
from mixgen.files import write_whole
from mixgen.training.callbacks import clock_text, tokens_text
from mixgen.training.run_dir import REPORT_FILE, is_own_card

CARD_HEADER: Final = {
    "library_name": "transformers",
    "pipeline_tag": "text-generation",
    "tags": ["mixgen", "tool-use", "synthetic"],
}
PLOTS: Final = {"loss_by_task.png": loss_figure, "skill.png": skill_figure}


def write_report(folder: Path, path: Path | None = None) -> Path | None:
    """Writes the report of a run and, into its folder, the card with its plots.

    Args:
        folder: The run's.
        path: Where to write the report, and no card; by default into the folder.

    Returns:
        A card that mixgen did not write, and that was left as it is.

    Raises:
        OutputError: The folder holds no run, or a file of it is damaged.
        OSError: Something cannot be written.
    """
    run = read_run(folder)
    figures = {name: draw([run]) for name, draw in PLOTS.items()}
    losses, skill = map(as_svg, figures.values())
    page = _render("report.html.j2", run=run, losses=losses, skill=skill)
    write_whole(path or folder / REPORT_FILE, page)
    if path:
        return None
    card = folder / CARD_FILE
    if not is_own_card(card):  # nor are the plots that it shows
        return card
    plots = {name: figure for name, figure in figures.items() if figure}
    for name, figure in plots.items():
        figure.savefig(folder / name, dpi=150)
    words = {"prompt": json.dumps(prompt_of(run), ensure_ascii=False), "name": NAME}
    body = _render("model_card.md.j2", run=run, plots=plots, **words)
    with naming(card):
        merged = merged_card(read_card(card), card_text(CARD_HEADER, body))
    write_whole(card, merged)
    return None


def prompt_of(run: Run) -> str:
    """An example of what to ask a model: a user's first words, of a right reply if there is one."""
    talks = [one for part in ("conversations", "failures") for r in run.results for one in r[part]]
    return str(talks[0]["messages"][0]["content"]) if talks else "What is 12 plus 30?"


def write_comparison(runs: Sequence[Run], path: Path) -> None:
    """Writes a page that compares runs: one table, their curves on one plot."""
    page = _render(
        "comparison.html.j2",
        runs=runs,
        rows=comparison_rows(runs),
        losses=as_svg(loss_figure(runs)),
        skill=as_svg(skill_figure(runs)),
    )
    write_whole(path, page)


def comparison_rows(runs: Sequence[Run]) -> list[list[str]]:
    """A table of runs: what it is, then its value in each run; only what is known of one."""
    rows = [["", *(run.name for run in runs)]]
    facts = {
        "parameters": [
            "" if run.facts["parameters"] is None else f"{run.facts['parameters']:,}"
            for run in runs
        ],
        "tokens": [tokens_text(run.tokens) for run in runs],
        "training time": [clock_text(run.seconds) for run in runs],
        "tokens/s": [tokens_text(run.tokens_per_second) for run in runs],
    }
    rows += [[name, *values] for name, values in facts.items()]
    for key in sorted({key for run in runs for key in run.recipe}):
        values = [str(run.recipe.get(key, "")) for run in runs]
        if len(set(values)) > 1 and key != "output_dir":
            rows.append([key, *values])
    for task in sorted({mix.name for run in runs for mix in run.mix}):
        mixes = [{mix.name: mix for mix in run.mix}.get(task) for run in runs]
        shares = [percent(mix.token_share) if mix else "" for mix in mixes]
        losses = [
            f"{mix.last_loss:.4f}" if mix and mix.last_loss is not None else "" for mix in mixes
        ]
        rows += [[f"{task}: share of trained tokens", *shares], [f"{task}: last loss", *losses]]
    found = [
        {
            f"{result['task']}: {row.name}": f"{row.value} ({row.interval})"
            if row.interval and "%" in row.value
            else row.value
            for result in run.results
            for row in metric_rows(result)
            if not row.group
        }
        for run in runs
    ]
    for name in dict.fromkeys(name for metrics in found for name in metrics):
        rows.append([name, *(metrics.get(name, "") for metrics in found)])
    return rows


def conditions(facts: Mapping[str, Any]) -> str:
    """How results came about, as far as the facts of a run tell.

    Examples:
        >>> conditions({"split": "test", "num_examples": 1000, "temperature": 0.0})
        'Test split, num_examples 1,000, greedy decoding; tools really run.'
    """
    split, number, temperature, checkpoint = map(
        facts.get, ("split", "num_examples", "temperature", "checkpoint")
    )
    parts = [f"{split} split".capitalize()] if split else []
    parts += [f"num_examples {number:,}"] if number is not None else []
    if temperature is not None:
        parts.append(f"temperature {temperature:g}" if temperature else "greedy decoding")
    parts += [f"checkpoint {checkpoint}"] if checkpoint else []
    return f"{', '.join(parts)}; tools really run." if parts else "Tools were really run."


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("mixgen.evaluation"),
        autoescape=lambda name: bool(name) and ".html" in str(name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
    )
    environment.filters |= {
        "clock": clock_text,
        "tokens": tokens_text,
        "percent": percent,
        "rows": metric_rows,
        "conditions": conditions,
        "call": call_text_of,
        "yaml": lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True).strip(),
    }
    return environment.get_template(template).render(**values)
