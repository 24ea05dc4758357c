"""From predictions to scores: what each system gets right, and how sure one may be of it.

    labels = evaluate.read_labels("test.csv")
    predictions, left_out = evaluate.find("predictions/")
    scores = evaluate.score(predictions, labels)

Names are imported when first used: `import evaluate` is light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.alignment import Aligned, align
    from evaluate.audit import Audit
    from evaluate.calibration import Calibration, calibration_of
    from evaluate.decision import DecisionCurves, decision_curves
    from evaluate.development import Development, read_development
    from evaluate.labels import Labels, read_labels
    from evaluate.operating import OperatingPoints, operating_points
    from evaluate.paired import Difference
    from evaluate.predictions import Predictions, find, read_predictions, write_predictions
    from evaluate.protocols import PROTOCOLS, OperatingPoint
    from evaluate.scored import Metric, Scores, SystemScores
    from evaluate.scores import difference, score
    from evaluate.subgroups import Subgroups, by_subgroup
    from evaluate.testimages import TestImage
    from evaluate.testset import TestSet, read_test_set

__all__ = [
    "PROTOCOLS",
    "Aligned",
    "Audit",
    "Calibration",
    "DecisionCurves",
    "Development",
    "Difference",
    "Labels",
    "Metric",
    "OperatingPoint",
    "OperatingPoints",
    "Predictions",
    "Scores",
    "Subgroups",
    "SystemScores",
    "TestImage",
    "TestSet",
    "align",
    "by_subgroup",
    "calibration_of",
    "decision_curves",
    "difference",
    "find",
    "operating_points",
    "read_development",
    "read_labels",
    "read_predictions",
    "read_test_set",
    "score",
    "write_predictions",
]

_HOMES = {
    "audit": ("Audit",),
    "alignment": ("Aligned", "align"),
    "calibration": ("Calibration", "calibration_of"),
    "decision": ("DecisionCurves", "decision_curves"),
    "development": ("Development", "read_development"),
    "labels": ("Labels", "read_labels"),
    "operating": ("OperatingPoints", "operating_points"),
    "paired": ("Difference",),
    "predictions": ("Predictions", "find", "read_predictions", "write_predictions"),
    "protocols": ("PROTOCOLS", "OperatingPoint"),
    "scored": ("Metric", "Scores", "SystemScores"),
    "scores": ("difference", "score"),
    "subgroups": ("Subgroups", "by_subgroup"),
    "testimages": ("TestImage",),
    "testset": ("TestSet", "read_test_set"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"evaluate.{module}"), name)
    raise AttributeError(f"module 'evaluate' has no attribute {name!r}")
