"""What runs on a node of a Ray cluster: a process that computes portions, and the trained files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from evaluate.compute import Computer
from evaluate.launchers.base import Finished, Where, failure, finished, here, prepare
from evaluate.portions import Portion
from evaluate.stores import Store
from evaluate.units import Network, code
from zoo import cache
from zoo.engines import Library
from zoo.errors import MachineError
from zoo.files import write
from zoo.runtime import Device, Precision

Files = dict[str, tuple[str, list[Any]]]
"""Trained files in Ray's object store, by checksum: the name of each, and a list of its reference alone.

Ray would hand over the content of a reference that is not in a list, whether it is needed or not."""


class Worker:
    """A process of the cluster."""

    def __init__(
        self, paths: tuple[str, ...], threads: int, workers: int | None, store: Store | None
    ) -> None:
        prepare(paths, threads)
        self.computer = Computer(workers or threads)
        self.store = store

    def ready(self) -> tuple[str, dict[Library, str]]:
        """On which node it is, and what code it runs with each engine."""
        import ray

        return ray.util.get_node_ip_address(), {engine: code(engine) for engine in get_args(Library)}

    def compute(self, portion: Portion, files: Files, after: Portion) -> Iterator[Finished | None]:
        """None, which says that it has begun, and the units of a portion, one after another.

        Images of what is likely to be next are decoded meanwhile."""
        yield None
        try:
            placed = _placed(portion, files)
        except MachineError as error:
            yield from (Finished(name=unit.name, failure=failure(error)) for unit in portion)
            return
        yield from finished(self.computer([placed], after), self.store)


def where(device: Device, precision: Precision) -> Where | str:
    """What a process of this node runs networks on; what is wrong where it cannot."""
    try:
        return here(device, precision)
    except MachineError as error:
        return str(error)


def _placed(portion: Portion, files: Files) -> Portion:
    """The portion with its trained files on this node's disk, where each is put once."""
    import ray

    networks: dict[str, Network] = {}
    for network in {unit.network.key: unit.network for unit in portion}.values():
        training = network.training
        if training.sha256 in files:
            name, (content,) = files[training.sha256]
            path = cache.folder() / "weights" / training.sha256 / name
            if not path.exists():
                write(path, ray.get(content))
            # A member whose file is all of it is made from that file.
            member = msgspec.structs.replace(training.member, file=str(path)) if training.member.file else training.member  # fmt: skip
            training = msgspec.structs.replace(training, path=path, member=member)
        networks[network.key] = msgspec.structs.replace(network, training=training)
    return tuple(msgspec.structs.replace(unit, network=networks[unit.network.key]) for unit in portion)
