"""Why counters of operations disagree, per type of module.

Counters are compared on the convolution and matrix-product family, which all of them count as
multiply-accumulates. What one of them counts beyond it, or leaves out, has a reason here; what
has none is `unexplained`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

from torch import nn

from benchmarks.results import Gap

UNEXPLAINED = "unexplained"

FVCORE_FAMILY = frozenset({"conv", "linear", "addmm", "mm", "bmm", "matmul", "einsum"})
"""The operators of fvcore that are convolutions and matrix products."""

_FVCORE_BEYOND = {
    "batch_norm": "counts batch normalisation, 2 per element",
    "layer_norm": "counts layer normalisation, 5 per element",
    "group_norm": "counts group normalisation, 5 per element",
    "instance_norm": "counts instance normalisation, 5 per element",
    "adaptive_avg_pool2d": "counts adaptive average pooling, 1 per input element",
    "upsample_bilinear2d": "counts bilinear resizing, 4 per output element",
}

_FVCORE_UNKNOWN = {
    "aten::scaled_dot_product_attention": "has no rule for fused attention and skips its two products",
    "aten::_convolution_mode": "has no rule for convolutions with named padding and skips them",
}

_THOP_BEYOND: dict[type[nn.Module], str] = {
    nn.BatchNorm1d: "counts batch normalisation, 4 per element",
    nn.BatchNorm2d: "counts batch normalisation, 4 per element",
    nn.LayerNorm: "counts layer normalisation, 4 per element",
    nn.AdaptiveAvgPool2d: "counts adaptive average pooling, 1 per input and 1 per output element",
    nn.AvgPool2d: "counts average pooling, 1 per output element",
    nn.Softmax: "counts softmax, 3 per element less 1 per row",
}

_THOP_SKIPS = "has no rule for this exact type and skips its convolutions and matrix products"

Counts = Mapping[str, Counter[str]]
"""Per module path, counts by operator."""

ByType = Mapping[type[nn.Module], Counter[str]]
"""Per type of module, counts by operator."""


def exclusive(inclusive: Counts) -> dict[str, Counter[str]]:
    """What each module counts itself, from what it and everything below it count.

    Args:
        inclusive: By path; the root's is `""`. A path may be missing where nothing was counted.

    >>> exclusive({"": Counter(conv=5, mm=2), "a": Counter(conv=5), "a.0.b": Counter(conv=3)})
    {'': Counter({'mm': 2}), 'a': Counter({'conv': 2}), 'a.0.b': Counter({'conv': 3})}
    """
    own = {path: Counter(counts) for path, counts in inclusive.items()}
    for path, counts in inclusive.items():
        above = path
        while above:
            above = above.rpartition(".")[0]
            if above in own:
                own[above].subtract(counts)
                break
    return {path: Counter({name: n for name, n in counts.items() if n}) for path, counts in own.items()}


def by_type(network: nn.Module, inclusive: Counts) -> ByType:
    """Counts summed over all modules of a type."""
    types = {path: type(module) for path, module in network.named_modules(remove_duplicate=False)}
    total: dict[type[nn.Module], Counter[str]] = defaultdict(Counter)
    for path, counts in exclusive(inclusive).items():
        total[types[path]].update(counts)
    return total


def fvcore_gaps(macs: ByType, fvcore: ByType, unknown: ByType) -> Iterator[Gap]:
    """Gaps between fvcore and the headline figure.

    Args:
        macs: The headline figure.
        fvcore: What fvcore counts.
        unknown: How often it met operators that it has no rule for.
    """
    for kind in _types(macs, fvcore):
        counted = fvcore.get(kind, Counter())
        family = sum(n for operator, n in counted.items() if operator in FVCORE_FAMILY)
        skipped = (_FVCORE_UNKNOWN[name] for name in unknown.get(kind, ()) if name in _FVCORE_UNKNOWN)
        yield from _gap(
            "fvcore", kind, family - macs.get(kind, Counter()).total(), next(skipped, UNEXPLAINED)
        )
        for operator, n in counted.items():
            if operator not in FVCORE_FAMILY:
                yield from _gap("fvcore", kind, n, _FVCORE_BEYOND.get(operator, UNEXPLAINED))


def thop_gaps(macs: ByType, thop: ByType, ruled: Collection[type[nn.Module]]) -> Iterator[Gap]:
    """Gaps between thop and the headline figure.

    Args:
        macs: The headline figure.
        thop: What thop counts.
        ruled: The types that it has rules for.
    """
    for kind in _types(macs, thop):
        family, counted = macs.get(kind, Counter()).total(), thop.get(kind, Counter()).total()
        if not family:
            reason = _THOP_BEYOND.get(kind, UNEXPLAINED)
        else:
            reason = UNEXPLAINED if kind in ruled else _THOP_SKIPS
        yield from _gap("thop", kind, counted - family, reason)


def _types(*counts: ByType) -> list[type[nn.Module]]:
    return sorted({kind for each in counts for kind in each}, key=lambda kind: kind.__name__)


def _gap(counter: str, kind: type[nn.Module], macs: int, reason: str) -> Iterator[Gap]:
    if macs:
        yield Gap(counter=counter, module=kind.__name__, macs=macs, reason=reason)
