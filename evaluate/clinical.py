"""All that a clinic asks of systems, asked for at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from evaluate.calibration import Calibration, calibration_of
from evaluate.decision import DecisionCurves, decision_curves
from evaluate.development import Development, read_development, unscored
from evaluate.labels import Labels
from evaluate.operating import OperatingPoints, operating_points
from evaluate.points import POINTS, read_point
from evaluate.predictions import Kind, Predictions
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
        sources: Files and folders of the predictions that lock thresholds (`with_development`).
        source_labels: What they are of, where they do not say themselves.
    """

    points: tuple[OperatingPoint, ...] = ()
    development: Mapping[str, Development] = {}
    prevalence: float | None = None
    decision_curves: bool = False
    calibration: bool = False
    subgroups: bool = False
    sources: tuple[Path, ...] = ()
    source_labels: Path | None = None


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
        threshold_from: Development predictions that lock the thresholds: read by `with_development`, once
            it is known which systems are scored.
        threshold_labels: What they are of, where they do not say themselves.
        prevalence: As in `Request`.
        decision_curves: As in `Request`.
        calibration: As in `Request`.
        subgroups: As in `Request`.

    Raises:
        UsageError: A point cannot be understood, or labels are given without predictions.
    """
    if threshold_labels and not threshold_from:
        raise UsageError("--threshold-labels says what the files of --threshold-from are; give both")
    points = tuple(dict.fromkeys(map(read_point, at)))
    asked = bool(threshold_from) or prevalence is not None
    return Request(
        points=points or (POINTS if asked else ()),
        prevalence=prevalence,
        decision_curves=decision_curves,
        calibration=calibration,
        subgroups=subgroups,
        sources=tuple(threshold_from),
        source_labels=threshold_labels,
    )


def with_development(
    request: Request, systems: Collection[str], kinds: Mapping[str, Kind] = MappingProxyType({})
) -> tuple[Request, dict[str, str]]:
    """The request with the development predictions of the systems that are scored.

    A folder may hold those of other systems too; a file that is named itself must be of one of them.

    Returns:
        The request; and for each file of a folder that was left out, why.

    Raises:
        InputError: A file is broken.
    """
    if not request.sources:
        return request, {}
    found = read_development(request.sources, request.source_labels, systems=systems, kinds=kinds)
    return msgspec.structs.replace(request, development=found), unscored(request.sources, systems)


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
