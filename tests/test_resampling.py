import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evaluate.resampling import (
    bootstrap,
    effective_clusters,
    effective_number,
    expanded_tail,
    interval,
    p_value,
    undefined,
    usual_resamples,
)


@settings(deadline=None)
@given(
    clusters=st.integers(1, 50),
    resamples=st.integers(1, 60),
    seed=st.integers(0, 2**32),
    chunk=st.integers(1, 70),
)
def test_the_chunk_does_not_change_the_resamples(clusters, resamples, seed, chunk):
    (whole,) = bootstrap(clusters, resamples, seed, chunk=resamples)
    parts = list(bootstrap(clusters, resamples, seed, chunk=chunk))
    assert all(part.shape[1] <= chunk for part in parts)
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    assert whole.shape == (clusters, resamples)
    assert (whole.sum(axis=0) == clusters).all()


def test_resamples_are_those_of_the_seed():
    assert np.array_equal(next(bootstrap(9, 5, 1)), next(bootstrap(9, 5, 1)))
    assert not np.array_equal(next(bootstrap(9, 5, 1)), next(bootstrap(9, 5, 2)))


def test_every_cluster_is_drawn_alike():
    """Weights are multinomial: mean 1, variance 1 - 1/k, covariance -1/k."""
    clusters, resamples = 10, 20_000
    weights = np.concatenate(list(bootstrap(clusters, resamples, seed=3)), axis=1)
    covariance = np.cov(weights)
    expected = np.eye(clusters) - 1 / clusters
    assert np.allclose(weights.mean(axis=1), 1, atol=0.03)
    assert np.allclose(covariance, expected, atol=0.05)


def test_the_standard_error_of_a_mean_is_that_of_the_textbook():
    values = np.random.default_rng(0).normal(size=200)
    means = np.concatenate([values @ weights / 200 for weights in bootstrap(200, 20_000)])
    assert means.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.03)
    low, high = interval(means)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.03)


def test_an_undefined_resample_is_left_out_and_too_many_are_told():
    values = np.arange(100.0)
    few, many = values.copy(), values.copy()
    few[:5] = np.nan
    many[:6] = np.nan
    assert interval(few) == pytest.approx(np.quantile(few[5:], [0.025, 0.975]))
    assert undefined(few) == ""
    assert interval(many) == (None, None)
    assert undefined(many) == "undefined in 6 of 100 resamples, which lack a class"


DRAWN = st.lists(st.integers(-30, 30), min_size=40, max_size=200).map(
    lambda each: np.array(each, dtype=float)
)
SIZES = st.sampled_from([3.0, 12.5, 90.0, np.inf])


@given(DRAWN, st.integers(-35, 35), SIZES)
def test_a_small_p_value_means_an_interval_without_zero(drawn, shift, size):
    drawn = drawn + shift
    p = p_value(drawn, size)
    assert 0 < p <= 1
    assert p == pytest.approx(p_value(-drawn, size))
    beyond = min(np.mean(drawn <= 0), np.mean(drawn >= 0))
    low, high = interval(drawn, size)
    if beyond > 0 and p < 0.05:
        assert low > 0 or high < 0
    # One resample more or less is all that the two may differ by.
    if low > 0 or high < 0:
        assert beyond <= expanded_tail(size) + 1 / (len(drawn) + 1)


@given(DRAWN)
def test_undefined_resamples_do_not_count(drawn):
    assert p_value(np.append(drawn, np.nan)) == p_value(drawn)


def test_p_values_go_on_where_counting_has_run_out():
    """Ten standard errors away, 100 resamples say no more than p < 0.02; their spread says more."""
    drawn = np.random.default_rng(0).normal(10, 1, size=100)
    assert p_value(drawn) < 1e-12
    assert p_value(drawn, 20.0) == pytest.approx(
        2 * stats.t.sf(drawn.mean() / drawn.std(ddof=1) * np.sqrt(19 / 20), 19), rel=1e-6
    )
    # No spread is no evidence of certainty: counting is all there is.
    assert p_value(np.ones(99)) == pytest.approx(2 / 100)
    # Never above what counting gives, however far the observed difference is from the resamples.
    assert p_value(np.linspace(0.1, 5, 999), observed=0.0) <= 2 / 1000


def test_p_values_are_the_levels_at_which_the_interval_leaves_out_zero():
    """For resamples of a normal it is the p-value of Student's t, whose standard error has divisor n - 1."""
    drawn = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000, loc=1.9, scale=1)
    assert p_value(drawn) == pytest.approx(2 * stats.norm.sf(1.9), rel=0.01)
    assert p_value(drawn, 15.0) == pytest.approx(2 * stats.t.sf(1.9 * np.sqrt(14 / 15), 14), rel=0.01)


@given(st.integers(2, 400))
def test_the_expanded_interval_of_a_mean_is_as_wide_as_the_t_interval(n):
    """Hesterberg 2015: resamples of a mean spread by sigma / sqrt(n), with sigma of divisor n."""
    z = stats.norm.isf(expanded_tail(float(n)))
    sigma, s = 1.0, np.sqrt(n / (n - 1))
    assert z * sigma / np.sqrt(n) == pytest.approx(stats.t.ppf(0.975, n - 1) * s / np.sqrt(n), rel=1e-9)


def test_small_samples_have_wider_intervals_and_large_ones_the_plain():
    drawn = np.random.default_rng(0).normal(size=10_000)
    widths = [np.diff(interval(drawn, size)).item() for size in (1.0, 5.0, 50.0, 500.0, np.inf)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == np.ptp(drawn)  # Of one patient nothing is known: all that was drawn.
    assert widths[-2] == pytest.approx(widths[-1], rel=0.01)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_unequal_clusters_are_worth_less_than_their_number(images):
    clusters = np.repeat(np.arange(len(images)), images)
    found = effective_number(clusters)
    assert 1 <= found <= len(images) + 1e-9
    assert (found == pytest.approx(len(images))) == (len(set(images)) == 1)
    assert effective_number(np.repeat(clusters, 3)) == pytest.approx(found)


def test_the_rarer_class_counts():
    melanoma = np.arange(100) < 8
    assert effective_clusters(melanoma, np.arange(100)) == 8
    assert effective_clusters(~melanoma, np.arange(100)) == 8
    assert effective_clusters(melanoma, np.arange(100) // 2) == 4
    assert effective_clusters(np.zeros(5, bool), np.arange(5)) == 0


def test_many_clusters_are_resampled_less_often():
    assert usual_resamples(603) == 10_000
    assert usual_resamples(400_000) == 1000
