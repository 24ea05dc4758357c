"""From a figure and its values in the resamples to what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluate.ranking import Floats
from evaluate.resampling import LARGEST_UNDEFINED_SHARE, SAME, THE_SAME, enough, expanded_tail
from evaluate.scored import Metric


def estimate(
    value: float, values: Floats, undefined: str, size: float = np.inf, *, lacking: int = 0, **more: Any
) -> Metric:
    """A figure with its 95% percentile interval, or why there is none.

    A figure that is the same in every resample gets none: a share of 0 or 1 there is no certainty.
    Resamples in which the figure is undefined are left out, unless they are too many; those in
    which it is infinite count, so that an end of the interval may be infinite and is then None.

    The percentile interval (Efron 1979, Ann. Stat. 7, 1) needs no formula per figure, and draws
    whole patients (Field & Welsh 2007, J. R. Stat. Soc. B 69, 369); it is expanded for small samples
    (`evaluate.resampling.expanded_tail`). Do not trust it where a class has fewer than about ten patients.

    Args:
        value: The figure on the test set; NaN or infinite where it is not defined.
        values: The figure in the resamples, shape (resamples,); NaN where undefined.
        undefined: When it is undefined or infinite, as words for a reader.
        size: What the sample is worth (`evaluate.resampling.effective_clusters`).
        lacking: In how many resamples a class is missing, so that the figure is undefined for that reason.
        more: Other fields of `Metric`.

    Raises:
        UsageError: There are fewer than `FEWEST_RESAMPLES`.

    >>> estimate(0.5, np.linspace(0, 1, 201), "no lesion is called").high
    0.975
    >>> estimate(np.inf, np.linspace(0, 1, 201), "no lesion is called").reason
    'no lesion is called'
    """
    enough(len(values))
    missing = int(np.isnan(values).sum())
    more["undefined"] = missing
    if not np.isfinite(value):
        return Metric(value=None, reason=undefined, **more)
    if missing > LARGEST_UNDEFINED_SHARE * len(values):
        why = {undefined: missing - lacking, "a class is missing": lacking}
        if undefined == "a class is missing":
            why = {undefined: missing}
        said = " and ".join(f"{what} in {count}" for what, count in why.items() if count > 0)
        reason = f"no interval: {said} of {len(values)} resamples"
        return Metric(value=value, reason=reason, **more)
    low, high = _ends(np.sort(values[~np.isnan(values)]), expanded_tail(size))
    if high - low < SAME:
        return Metric(value=value, reason=THE_SAME, **more)
    reason = "" if np.isfinite(high) else f"no upper end: {undefined} in too many resamples"
    return Metric(
        value=value,
        low=low if np.isfinite(low) else None,
        high=high if np.isfinite(high) else None,
        reason=reason,
        **more,
    )


def _ends(ordered: Floats, tail: float) -> tuple[float, float]:
    """The percentiles; those next outside among the values themselves where some are infinite."""
    if np.isfinite(ordered[-1]):
        low, high = np.quantile(ordered, [tail, 1 - tail]).tolist()
        return low, high
    last = len(ordered) - 1
    return float(ordered[int(np.floor(tail * last))]), float(ordered[int(np.ceil((1 - tail) * last))])
