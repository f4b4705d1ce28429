"""The progress bar: what it says, how often, and how it guesses the time left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from saga_ray.train.progress import RECENT_STEPS, Progress, clock_time


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def record(step: int, **more: float) -> dict[str, float]:
    return {"step": step, "progress": step / 10, "loss/metric": 0.4123} | more


def log(steps: int, seconds_a_step: float, *, line_every_s: float = 10.0) -> list[str]:
    """The lines that a run of some steps writes into a job's log."""
    clock, out = Clock(), io.StringIO()
    with Progress(
        ["saga"], console=Console(file=out, soft_wrap=True), line_every_s=line_every_s, clock=clock
    ) as progress:
        progress.begin("saga", steps)
        for step in range(steps):
            clock.now += seconds_a_step
            progress.update(record(step))
        progress.end()
    return out.getvalue().splitlines()


def test_a_log_gets_a_line_every_ten_seconds_and_the_first_and_last_step() -> None:
    lines = log(steps=30, seconds_a_step=1.0)
    assert [line.split("step ")[1].split()[0] for line in lines] == ["1/30", "11/30", "21/30", "30/30"]


def test_slow_steps_get_a_line_each() -> None:
    assert len(log(steps=4, seconds_a_step=60.0)) == 4


def test_a_line_tells_arm_step_time_left_losses_and_rewards() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(
        ["metric", "saga"], console=Console(file=out, soft_wrap=True, width=40), line_every_s=1, clock=clock
    )
    progress.begin("saga", steps=250)
    progress.update(record(0))
    clock.now += 2.0
    progress.update(
        record(
            1,
            **{
                "loss/grpo": -0.0031,
                "loss/distillation": 0.2,
                "rollout/reward": 0.714,
                "rollout/informative_share": 0.48,
            },
        )
    )
    assert out.getvalue() == (
        "saga (2 of 2)  step 1/250  time left: ?  metric 0.412\n"
        "saga (2 of 2)  step 2/250  2.00 s/step  8:16 left  "
        "metric 0.412  grpo -0.003  distillation 0.200  reward 0.71  informative 48%\n"
    )


def test_time_left_follows_the_recent_pace_not_the_slow_start() -> None:
    clock = Clock()
    progress = Progress(["saga"], console=Console(file=io.StringIO()), clock=clock)
    progress.begin("saga", steps=100)
    assert progress.seconds_left() is None
    clock.now += 60.0  # workers start
    progress.update(record(0))
    assert progress.seconds_left() is None
    for step in range(1, 50):
        clock.now += 2.0
        progress.update(record(step))
    assert progress.seconds_left() == pytest.approx(50 * 2.0)


def test_a_resumed_arm_counts_only_its_own_steps_into_the_pace() -> None:
    clock = Clock()
    progress = Progress(["saga"], console=Console(file=io.StringIO()), clock=clock)
    progress.begin("saga", steps=100, done=90)
    progress.update(record(90))
    clock.now += 3.0
    progress.update(record(91))
    assert progress.seconds_left() == pytest.approx(24.0)


@pytest.mark.parametrize("before", [1, 3, RECENT_STEPS, RECENT_STEPS + 1])
@pytest.mark.parametrize("steps", [100, None])
def test_steps_that_workers_repeat_begin_a_new_pace(before: int, steps: int | None) -> None:
    clock = Clock()
    progress = Progress(["saga"], console=Console(file=io.StringIO()), clock=clock)
    progress.begin("saga", steps)
    for repeated in (range(before), range(before + 1)):
        for step in repeated:
            progress.update(record(step, progress=step / 100))
            clock.now += 2.0
        clock.now += 60.0  # workers start again
    done = before + (1 if steps else 0)
    assert progress.seconds_left() == pytest.approx((100 - done) * 2.0)


def test_an_arm_with_seconds_to_spend_goes_by_its_share() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress(["equal-compute"], console=Console(file=out, soft_wrap=True), clock=clock)
    progress.begin("equal-compute", steps=None)
    progress.update(record(2))
    clock.now += 10.0
    progress.update(record(4))
    assert progress.seconds_left() == pytest.approx(30.0)
    assert "step 5, 40%" in out.getvalue()


def test_a_terminal_gets_a_bar_and_one_closing_line() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with Progress(["saga"], console=console) as progress:
        progress.begin("saga", steps=2)
        progress.update(record(0))
        progress.update(record(1))
        progress.end()
    bar, closing = out.getvalue().split("saga (1 of 1)  ")
    assert "━" in bar and "step 1/2" in bar
    assert closing.startswith("step 2/2") and "metric 0.412" in closing


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (185, "3:05"), (3_725, "1:02:05")]
)
def test_clock_time(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text
