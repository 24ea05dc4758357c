"""How close to the machine's limit a network runs, and which limit that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """A network's rate beside the machine's measured ceilings.

    Attributes:
        flops: Achieved FLOP/s: two per counted multiply-accumulate.
        compute: The time that its arithmetic takes at the highest rate measured, as a share of the
            time it took; the share of the compute ceiling that it reaches.
        memory: The time that its operators' bytes take at the rate of a large copy, as a share of
            the time it took; None where bytes were not counted. Above 1 where caches kept them.
        limit: The ceiling it is nearer to: `compute` or `memory`; empty where one of them is unknown.
    """

    flops: float
    compute: float
    memory: float | None
    limit: str


def roofline(macs: int, traffic: int | None, seconds: float, ceilings: Mapping[str, float]) -> Roofline:
    """Compares a pass with the ceilings.

    The roofline model (Williams, Waterman & Patterson 2009, doi 10.1145/1498765.1498785) for a whole
    network: no pass is faster than its arithmetic at the compute ceiling, nor than its bytes at the
    memory ceiling; the larger of the two times is the limit.

    Args:
        macs: Multiply-accumulates of the pass.
        traffic: Bytes that its operators read and write; None where they were not counted.
        seconds: Time it took.
        ceilings: `matmul` and `convolution` in FLOP/s, `copy` in bytes/s.

    >>> roofline(10**9, 10**8, 0.5, {"matmul": 1e10, "convolution": 8e9, "copy": 1e9})
    Roofline(flops=4000000000.0, compute=0.4, memory=0.2, limit='compute')
    """
    flops = 2 * macs / seconds
    compute = flops / max(ceilings["matmul"], ceilings["convolution"])
    memory = None if traffic is None else traffic / ceilings["copy"] / seconds
    return Roofline(
        flops=flops,
        compute=compute,
        memory=memory,
        limit="" if memory is None else "memory" if memory > compute else "compute",
    )
