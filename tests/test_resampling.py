import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.resampling import bootstrap, interval, undefined


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
