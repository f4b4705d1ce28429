"""The sweep's page: one HTML file that opens from disk."""

from __future__ import annotations

from pathlib import Path

from saga_ray.config.searched import searched
from saga_ray.config.sweep import SweepSettings
from saga_ray.files import write_text
from saga_ray.html import PAGE, environment
from saga_ray.tune import drawing
from saga_ray.tune.importance import FEWEST, importances
from saga_ray.tune.result import SweepResult, over_seeds
from saga_ray.tune.watch import shown

TEMPLATES = Path(__file__).parent / "templates"


def write_sweep_report(folder: Path, sweep: SweepSettings, result: SweepResult) -> Path:
    """Write ``folder/index.html``, whole or not at all; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    templates = environment(TEMPLATES)
    templates.filters |= {"shown": shown, "percent": lambda value: f"{100 * value:.1f}"}
    known = searched(sweep.command)
    scored = [trial for trial in result.trials if trial.value is not None]
    page = templates.get_template("sweep.html.jinja").render(
        sweep=sweep,
        result=result,
        scored=scored,
        applied=[name for name in sweep.parameters if any(name in trial.values for trial in scored)],
        numbers={trial.id: number for number, trial in enumerate(result.trials, 1)},
        measures=[name for name in known.tested if all(name in each for each in result.test.values())],
        held_out=known.held_out,
        typed=known.typed,
        what=known.what.format(arm=sweep.arm),
        drawing=drawing,
        importances=importances(sweep, result.trials),
        fewest=FEWEST,
        shows_seed=sweep.repeats > 1,
        over_seeds=over_seeds,
    )
    write_text(folder / PAGE, page)
    return folder / PAGE
