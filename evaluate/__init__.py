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
    from evaluate.labels import Labels, read_labels
    from evaluate.predictions import Predictions, find, read_predictions, write_predictions
    from evaluate.protocols import PROTOCOLS
    from evaluate.scores import Difference, Metric, Scores, SystemScores, difference, score

__all__ = [
    "PROTOCOLS",
    "Aligned",
    "Audit",
    "Difference",
    "Labels",
    "Metric",
    "Predictions",
    "Scores",
    "SystemScores",
    "align",
    "difference",
    "find",
    "read_labels",
    "read_predictions",
    "score",
    "write_predictions",
]

_HOMES = {
    "audit": ("Audit",),
    "alignment": ("Aligned", "align"),
    "labels": ("Labels", "read_labels"),
    "predictions": ("Predictions", "find", "read_predictions", "write_predictions"),
    "protocols": ("PROTOCOLS",),
    "scores": ("Difference", "Metric", "Scores", "SystemScores", "difference", "score"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"evaluate.{module}"), name)
    raise AttributeError(f"module 'evaluate' has no attribute {name!r}")
