"""The protocol of timing, against a clock that does not tick by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat

import pytest

from benchmarks.timing import FULL, QUICK, WHOLE, Rules, interleaved, sample, steady, timed, warm_up


class Clock:
    """Stands still but for the steps, which take what they are told."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.now = 0
        self._seconds: Iterator[float] = chain(seconds, repeat(seconds[-1]))

    def __call__(self) -> int:
        return self.now

    def step(self) -> None:
        self.now += round(next(self._seconds) * 1e9)


def warmed(*seconds: float, rules: Rules = FULL) -> tuple[int, bool, float]:
    clock = Clock(seconds)
    steps, settled = warm_up(clock.step, rules, clock)
    return steps, settled, clock.now / 1e9


def test_a_step_takes_what_the_clock_says() -> None:
    clock = Clock([0.25])
    assert timed(clock.step, clock) == 250.0


@pytest.mark.parametrize(
    ("step_s", "steps"),
    [(1.0, 10), (0.5, 10), (0.1, 30), (0.01, 300)],
)
def test_a_steady_network_warms_up_for_ten_steps_and_three_seconds(step_s: float, steps: int) -> None:
    assert warmed(step_s) == (steps, True, pytest.approx(steps * step_s))


def test_the_warm_up_goes_on_until_the_rolling_median_is_steady() -> None:
    falling = [2.0 * 0.9**index for index in range(25)]
    steps, settled, _ = warmed(*falling, 0.14)
    assert settled
    assert steps > 25
    times = [*(1e3 * each for each in falling), *[140.0] * (steps - 25)]
    assert steady(times, FULL)
    assert not steady(times[:-1], FULL)


def test_a_network_that_never_settles_is_given_a_minute() -> None:
    rising = [1.05**index for index in range(60)]
    steps, settled, spent = warmed(*rising)
    assert not settled
    assert steps < 60
    assert spent >= FULL.warm_most_s


def test_one_slow_step_does_not_prolong_the_warm_up() -> None:
    assert warmed(5.0, *[0.4] * 9) == (10, True, pytest.approx(8.6))


@pytest.mark.parametrize(
    ("step_s", "steps"),
    [(0.01, 300), (0.1, 30), (0.5, 10), (1.0, 10), (1.25, 8), (4.0, 3), (10.0, 1), (20.0, 1)],
)
def test_a_whole_protocol_warms_up_as_all_does_where_it_is_short(step_s: float, steps: int) -> None:
    assert warmed(step_s, rules=WHOLE) == (steps, True, pytest.approx(steps * step_s))


def test_a_short_protocol_that_does_not_settle_is_flagged_too() -> None:
    rising = [0.5 * 1.05**index for index in range(60)]
    assert warmed(*rising, rules=WHOLE) == warmed(*rising)
    assert not warmed(*rising, rules=WHOLE)[1]


def test_a_quick_warm_up_waits_for_nothing() -> None:
    assert warmed(0.5, 0.1, rules=QUICK)[:2] == (1, True)


@pytest.mark.parametrize(
    ("step_s", "samples"),
    [
        (1.0, 60),  # a minute is over before there are enough
        (0.1, 221),  # a third of the samples that p99 needs
        (0.02, 500),  # ten seconds are not over before
        (100.0, 1),
    ],
)
def test_sampling_ends_with_enough_samples_and_seconds_or_a_minute(step_s: float, samples: int) -> None:
    clock = Clock([step_s])
    assert sample(clock.step, FULL, clock) == [pytest.approx(1e3 * step_s)] * samples


def test_three_rounds_together_have_the_samples_of_p99() -> None:
    clock = Clock([0.05])
    rounds = [sample(clock.step, FULL.of("latency"), clock) for _ in range(FULL.rounds)]
    assert sum(map(len, rounds)) >= FULL.samples == 662


@pytest.mark.parametrize(("scenario", "fewest"), [("latency", 662), ("throughput", 64), ("end-to-end", 64)])
def test_a_scenario_has_the_samples_of_its_highest_percentile_and_no_more(scenario: str, fewest: int) -> None:
    rules = FULL.of(scenario)
    clock = Clock([1.0 if fewest == 64 else 0.2])  # so slow that the number of samples decides
    rounds = [sample(clock.step, rules, clock) for _ in range(rules.rounds)]
    assert fewest <= sum(map(len, rounds)) < fewest + rules.rounds
    assert replace(rules, samples=FULL.samples) == FULL
    assert QUICK.of(scenario) == QUICK


def test_rounds_are_interleaved_and_shuffled_anew_by_the_seed() -> None:
    cells = list("abcdefgh")
    order = list(interleaved(cells, 3, seed=1))
    assert [turn for turn, _ in order] == [0] * 8 + [1] * 8 + [2] * 8
    assert Counter(cell for _, cell in order) == dict.fromkeys(cells, 3)
    rounds = [[cell for turn, cell in order if turn == each] for each in range(3)]
    assert len({tuple(each) for each in rounds}) == 3
    assert order == list(interleaved(cells, 3, seed=1))
    assert order != list(interleaved(cells, 3, seed=2))


def test_a_window_is_half_the_fewest_steps() -> None:
    rules = replace(FULL, warm_steps=4)
    assert steady([9.0, 9.0, 1.0, 1.0, 1.0, 1.0], rules)
    assert not steady([9.0, 9.0, 9.0, 1.0, 1.0], rules)
    assert not steady([1.0, 1.0, 1.0], rules)
