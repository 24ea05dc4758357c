"""All that a clinic asks of systems, asked for at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evaluate.calibration import Calibration, calibration_of
from evaluate.decision import DecisionCurves, decision_curves
from evaluate.development import Development, read_development
from evaluate.labels import Labels
from evaluate.operating import OperatingPoints, operating_points
from evaluate.points import POINTS, read_point
from evaluate.predictions import Predictions
from evaluate.protocols import OperatingPoint
from evaluate.subgroups import Subgroups, by_subgroup
from zoo.errors import UsageError


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for.

    Attributes:
        points: Operating points; none where empty.
        development: Predictions that lock their thresholds, by system.
        prevalence: The share of melanomas to re-weight to; None for that of the test set.
        decision_curves: Whether net benefit is asked for.
        calibration: Whether calibration is.
        subgroups: Whether subgroups are.
    """

    points: tuple[OperatingPoint, ...] = ()
    development: Mapping[str, Development] = {}
    prevalence: float | None = None
    decision_curves: bool = False
    calibration: bool = False
    subgroups: bool = False


def read_request(
    *,
    at: Sequence[str] = (),
    threshold_from: Sequence[Path] = (),
    threshold_labels: Path | None = None,
    prevalence: float | None = None,
    decision_curves: bool = False,
    calibration: bool = False,
    subgroups: bool = False,
) -> Request:
    """A request from words and files.

    Args:
        at: Operating points such as `sensitivity=0.9`; the usual three where there are none but
            something else asks for operating points.
        threshold_from: Development predictions that lock the thresholds.
        threshold_labels: What they are of, where they do not say themselves.
        prevalence: As in `Request`.
        decision_curves: As in `Request`.
        calibration: As in `Request`.
        subgroups: As in `Request`.

    Raises:
        UsageError: A point cannot be understood, or labels are given without predictions.
        InputError: A file is broken.
    """
    if threshold_labels and not threshold_from:
        raise UsageError("--threshold-labels says what the files of --threshold-from are; give both")
    points = tuple(dict.fromkeys(map(read_point, at)))
    asked = bool(threshold_from) or prevalence is not None
    return Request(
        points=points or (POINTS if asked else ()),
        development=read_development(threshold_from, threshold_labels) if threshold_from else {},
        prevalence=prevalence,
        decision_curves=decision_curves,
        calibration=calibration,
        subgroups=subgroups,
    )


class Clinical(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found of it; None for what was not asked for."""

    operating_points: OperatingPoints | None = None
    decision_curves: DecisionCurves | None = None
    calibration: Calibration | None = None
    subgroups: Subgroups | None = None


def clinical(
    predictions: Sequence[Predictions],
    labels: Labels,
    request: Request,
    *,
    resamples: int | None = None,
    seed: int = 0,
) -> Clinical:
    """Answers a request; all figures share the resamples of one seed.

    Raises:
        InputError: The files do not fit together.
        UsageError: A point or the prevalence is not a share, or too few resamples are asked for.
    """
    given: dict[str, Any] = {"resamples": resamples, "seed": seed}
    weighted = {**given, "prevalence": request.prevalence}
    return Clinical(
        operating_points=operating_points(
            predictions, labels, request.points, development=request.development, **weighted
        )
        if request.points
        else None,
        decision_curves=decision_curves(predictions, labels, **weighted) if request.decision_curves else None,
        calibration=calibration_of(predictions, labels, **given) if request.calibration else None,
        subgroups=by_subgroup(
            predictions, labels, points=request.points, development=request.development, **given
        )
        if request.subgroups
        else None,
    )
