import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from evaluate.blend import blend, percentile_rank

# Few distinct values, so that ties are common.
scores = arrays(np.float64, st.integers(1, 30), elements=st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.9, 1.0]))


def members(images: int, values):
    member = st.integers(1, 3).flatmap(lambda folds: arrays(np.float64, (images, folds), elements=values))
    return st.dictionaries(st.text(min_size=1, max_size=3), member, min_size=1, max_size=4)


@settings(deadline=None)
@given(scores)
def test_percentile_rank_is_that_of_pandas_and_of_scipy(values):
    ranks = percentile_rank(values)
    assert np.array_equal(ranks, pd.Series(values).rank(pct=True))
    assert np.allclose(ranks, rankdata(values) / len(values), atol=0, rtol=1e-15)


@settings(deadline=None)
@given(members(5, st.floats(0, 1)))
def test_mean_weighs_members_alike_whatever_their_folds(several):
    expected = pd.DataFrame({name: pd.DataFrame(folds).mean(axis=1) for name, folds in several.items()}).mean(
        axis=1
    )
    assert np.allclose(blend(several, "mean"), expected)


@settings(deadline=None)
@given(members(6, st.integers(0, 8).map(lambda k: k / 8)))
def test_rank_mean_sees_only_the_order_of_each_member(several):
    stretched = {name: (folds.mean(axis=1, keepdims=True) * 8) ** 3 for name, folds in several.items()}
    assert np.allclose(blend(several, "rank_mean"), blend(stretched, "rank_mean"))


@pytest.mark.parametrize("how", ["mean", "rank_mean"])
@settings(deadline=None)
@given(several=members(4, st.floats(0, 1)))
def test_order_of_members_does_not_matter(how, several):
    turned = dict(reversed(several.items()))
    assert np.allclose(blend(several, how), blend(turned, how))


def test_folds_are_averaged_before_ranking():
    folds = np.array([[0.9, 0.1], [0.4, 0.4], [0.5, 0.6]])
    assert blend({"a": folds}, "rank_mean").tolist() == [2 / 3, 1 / 3, 1.0]


@pytest.mark.parametrize("how", ["mean", "rank_mean"])
def test_a_missing_score_is_not_averaged_over(how):
    several = {"a": np.array([[0.1, np.nan], [0.5, 0.6]]), "b": np.array([[0.2], [0.3]])}
    assert np.isnan(blend(several, how)[0])
