"""The network of one training, ready to run; also in a process of its own, to see whether it is the same.

python -m evaluate.loading < request.json
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

import weights
from evaluate.jobs import Job, Training
from weights.untrained import enliven
from zoo.card import Member
from zoo.errors import CardError, CheckpointError
from zoo.files import sha256
from zoo.networks import assemble

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.registry import Builder


def network(training: Training, build: Builder | None = None) -> nn.Module:
    """The network of a training with its weights, in eval mode on the CPU.

    Args:
        training: The member, and its trained file or the seed of random weights.
        build: Makes the network; as the card says where None.

    Raises:
        CardError: The network cannot be made as its card says.
        CheckpointError: The trained file does not fit.
    """
    import torch

    build = build or assemble
    if training.member.complete:
        return build(training.member).eval()
    if training.path is not None:
        made = weights.load(_blank(training.member, build), training.path).eval()
        unchanged(training)
        return made
    # Trainings of one member differ, and so do their random weights.
    seed = (training.seed or 0) + training.fold
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = build(training.member).eval()
    features = training.member.metadata.features if training.member.metadata else 0
    try:
        enliven(made, seed, features)
    except (RuntimeError, AssertionError, ValueError):
        # Some networks take images of one size alone.
        enliven(made, seed, features, training.member.size)
    return made


def unchanged(training: Training) -> None:
    """Makes sure that a trained file is the one that results are kept under.

    Raises:
        CheckpointError: It has changed since it was checked.
    """
    if training.path is not None and training.sha256 and sha256(training.path) != training.sha256:
        raise CheckpointError(f"{training.path}: has changed since it was checked; run again")


def check(job: Job, build: Builder | None = None) -> None:
    """Makes sure that all trained files of a system fit its networks, before the first of them runs.

    Raises:
        CheckpointError: Some do not; one message has all of them.
    """
    wrong = []
    blanks: dict[str, nn.Module] = {}
    for training in job.trainings:
        if training.path is None or training.member.complete:
            continue
        name = training.member.name
        if name not in blanks:
            blanks = {name: _blank(training.member, build or assemble)}
        try:
            weights.check(blanks[name], training.path)
        except CheckpointError as error:
            wrong.append(str(error))
    if wrong:
        raise CheckpointError("; ".join(wrong))


def _blank(member: Member, build: Builder) -> nn.Module:
    """A network to load a file into: without numbers of its own, where the standard assembly makes it."""
    import torch

    if build is assemble:
        with torch.device("meta"):
            made = build(member)
        kept = made.state_dict().keys()
        # A buffer that is in no file would stay without numbers.
        if all(name in kept for name, _ in made.named_buffers()):
            return made.eval()
    return build(member).eval()


def probe(training: Training, batch: int) -> list[Tensor]:
    """Seeded inputs of a network: images, and metadata where it reads them."""
    import torch

    generator = torch.Generator().manual_seed(0)
    member = training.member
    inputs = [torch.randn(batch, 3, member.size, member.size, generator=generator)]
    if member.metadata:
        inputs.append(torch.randn(batch, member.metadata.features, generator=generator))
    return inputs


def elsewhere(training: Training) -> list[list[float]]:
    """What a fresh process computes for `probe(training, 1)`, with a network that it makes itself.

    Raises:
        CardError: It fails; the message has its last line.
    """
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    run = subprocess.run(
        [sys.executable, "-P", "-m", "evaluate.loading"],
        input=msgspec.json.encode(training, enc_hook=str),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if run.returncode:
        last = run.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise CardError(f"a fresh process fails: {' '.join(last)}")
    return msgspec.json.decode(run.stdout.splitlines()[-1], type=list[list[float]])


def _main() -> None:
    import torch

    training = msgspec.json.decode(
        sys.stdin.buffer.read(), type=Training, dec_hook=lambda kind, value: kind(value)
    )
    with torch.inference_mode():
        found = network(training)(*probe(training, 1))
    print(msgspec.json.encode(found.tolist()).decode())  # noqa: T201


if __name__ == "__main__":
    _main()
