"""Progress where there is no terminal: plain lines on stderr, with the time that is left."""

from __future__ import annotations

from collections import deque

import pytest

from reports import terminal


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(terminal, "time", made)
    return made


def test_lines_say_how_long_the_rest_takes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress() as step:
        for done in range(1, 5):
            clock.now += 60
            step("timing", done, 4)
        step("memory", 1, 1)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "timing: 1 of 4",
        "timing: 2 of 4, about 0:02:00 left",
        "timing: 3 of 4, about 0:01:00 left",
        "timing: 4 of 4",
        "memory: 1 of 1",
    ]


def test_quick_steps_have_a_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress() as step:
        for done in range(1, 101):
            clock.now += 0.5
            step("images", done, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["images: 1 of 100", "images: 22 of 100, about 0:00:39 left"]
    assert lines[-1] == "images: 100 of 100"
    assert len(lines) == 6


def test_the_time_left_is_judged_by_the_last_hour() -> None:
    quick_at_first = deque([(0.0, 1), (10.0, 101), (4000.0, 102), (7000.0, 105)])
    assert terminal.time_left(quick_at_first, 205) == pytest.approx(100 * 1000)
    assert terminal.time_left(deque([(5.0, 3)]), 10) is None
    assert terminal.time_left(deque([(5.0, 0), (9.0, 0)]), 10) is None
