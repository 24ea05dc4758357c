"""Everything that a machine with a CUDA GPU can say, in one command: `python -m reports.gpu`.

It runs the CUDA tests, then profiles the systems in fp32, tf32 and bf16, writes one record and its tables, and
at last times `predict` beside timm's benchmark (`benchmarks.bench_gpu`). Beside this project's own code it needs
torch, timm, pandas, click and rich only, and pytest for the tests; cards and counts come from a record that was
made elsewhere (`reports.base`). Where what reads images is missing, the rows of end-to-end say so, and `predict` is
not timed.

The exit code is 5 where a CUDA test failed, with all else done.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from benchmarks import bench_gpu, limited
from benchmarks.cells import PRECISIONS, SCENARIOS, Device, Precision, Scenario
from benchmarks.lines import Target
from benchmarks.machine import gpu_model, resolve
from reports import base
from reports.commands.base import Failure, say_left_out
from reports.profile import tables
from reports.profiling import Asked, amount, plan, run, write_all
from reports.terminal import print_tables, progress
from zoo.errors import InputError, MachineError, MelanomaZooError
from zoo.files import make_folder, write
from zoo.processor import processor

ROOT = Path(__file__).parents[1]
_TESTS = (ROOT / "tests" / "test_cuda.py", ROOT / "tests" / "test_cuda_predict.py")
_TESTS_S = 1800
"""Seconds that they may take."""

_FAILED = 5
"""The exit code where one of them failed."""

_PRECISIONS: dict[Device, tuple[Precision, ...]] = {"cuda": ("fp32", "tf32", "bf16"), "cpu": ("fp32", "bf16")}


def folder_name(device: Device) -> str:
    """The name of the GPU that networks run on, or of the processor, as a folder is called."""
    model = processor() if device == "cpu" else gpu_model() or device
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")


def results(device: Device) -> Path:
    """The folder that everything is written to where no other is asked for."""
    return ROOT / "reports" / "results" / folder_name(device)


def cuda_tests(folder: Path) -> tuple[str, bool]:
    """Runs the CUDA tests and writes what they print.

    Returns:
        The last line of it, or why they did not run; and whether any failed.
    """
    for needed in ("pytest", "timm"):
        if find_spec(needed) is None:
            return f"CUDA tests not run: {needed} is not installed", False
    if not all(each.is_file() for each in _TESTS):
        return "CUDA tests not run: this installation comes without tests/", False
    # The project's own configuration asks for plug-ins of pytest that may be missing here.
    options = [
        *("--noconftest", "-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider"),
        # A file that cannot be imported here is no reason to run none of the other.
        *("--continue-on-collection-errors", "--no-header", "-rfEs"),
    ]
    # Plug-ins of other packages are not needed, and may fail for want of what they need themselves.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "pytest"  # its own would be called by the user's name
        command = [sys.executable, "-m", "pytest", *options, "--basetemp", str(place), *map(str, _TESTS)]
        done = limited.run(command, _TESTS_S, cwd=ROOT, env=environment)
    write(folder / "cuda-tests.txt", _unowned(done.out + done.err))  # What pytest itself refuses is an error.
    if done.late:
        return f"CUDA tests: not done after {_TESTS_S} s", True
    lines = done.out.strip().splitlines() or [done.err.strip() or "no output"]
    return f"CUDA tests: {lines[-1].strip('= ')}", done.code != 0


def _unowned(text: str) -> str:
    """A text without the folders that say whose machine it comes from: it is to be handed on with the results."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where the user has none.
    for folder, shown in ((ROOT, "."), (Path(sys.prefix), "…"), (home, "~")):
        if folder.is_absolute() and folder != folder.parent:  # in some containers all is at home
            text = text.replace(str(folder), shown)
    return text


def _words(
    system: str,
    device: Device,
    precisions: Sequence[Precision],
    images: Path | None,
    quick: bool,
    folder: Path,
) -> list[str]:
    """How `bench_gpu` is asked for what everything else was asked for."""
    return [
        *("--system", system, "--device", device, "--output", str(folder / "predict.md")),
        *(("--precisions", *precisions) if precisions else ()),
        *(("--images", str(images)) if images else ()),
        *(("--quick",) if quick else ()),
    ]


def _of_predict(targets: Sequence[Target]) -> str | None:
    """The system that `predict` is timed with: its first network is taken, on images alone; None where none will do."""
    able = [each.name for each in targets if not each.networks[0].member.get("metadata")]
    return bench_gpu.SYSTEM if bench_gpu.SYSTEM in able else next(iter(able), None)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("systems", nargs=-1)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Choice(SCENARIOS),
    default=SCENARIOS,
    show_default=True,
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="By default fp32, tf32 and bf16, and for predict the last two; no tf32 on a CPU.",
)
@click.option(
    "--images",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of real images for end-to-end, for predict (JPEG files), and for the accuracy of faster variants; "
    "made-up JPEGs without it.",
)
@click.option("--quick", is_flag=True, help="Shorten everything; every figure is marked so.")
@click.option("--resume", is_flag=True, help="Take the readings that an earlier run finished.")
@click.option("--tests/--no-tests", default=True, show_default=True, help="Run the CUDA tests first.")
@click.option(
    "--predict/--no-predict",
    default=True,
    show_default=True,
    help="Time predict beside timm's benchmark at last.",
)
@click.option("--counts", type=click.Path(path_type=Path), default=base.COUNTS, help="Cards and counts.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="By default reports/results/ and the GPU's name."
)
@click.option(
    "--limit",
    "limit_s",
    type=click.IntRange(min=1),
    default=900,
    show_default=True,
    help="Seconds for a process.",
)
def main(
    systems: tuple[str, ...], device: Device, scenarios: tuple[Scenario, ...], precisions: tuple[Precision, ...],
    images: Path | None, quick: bool, resume: bool, tests: bool, predict: bool, counts: Path, output: Path | None,
    limit_s: int,
) -> None:  # fmt: skip
    """Test and profile SYSTEMS (all by default) on a GPU."""
    try:
        if images and not images.is_dir():
            raise InputError(f"--images {images}: there is no such folder")
        made = base.only(base.read(counts), systems)
        system = _of_predict(base.targets(made))
        say_left_out(base.left_out(made))
        resolve(device)
        folder = output or results(device)
        make_folder(folder)
        said, failed = cuda_tests(folder) if tests else ("CUDA tests not run: --no-tests", False)
        click.echo(said, err=True)
        asked = Asked(
            scenarios=scenarios,
            devices=(device,),
            precisions=precisions or _PRECISIONS[device],
            threads=("all",),
            images=images,
            quick=quick,
            resume=resume,
            limit_s=limit_s,
            readings=folder / "readings",
        )
        click.echo(amount(plan(made, asked)), err=True)
        with progress() as step:
            found, samples = run(made, asked, progress=step)
        print_tables(tables(found))
        click.echo(f"wrote {', '.join(map(str, write_all(made, found, samples, folder)))}", err=True)
        if all(row.error for row in found.rows):
            raise MachineError(f"nothing could be measured: {found.rows[0].error}")
        if system is None and predict:
            click.echo(
                "bench_gpu: not run: networks that come first read metadata, and there are images alone",
                err=True,
            )
        elif system is not None and predict:
            bench_gpu.main(_words(system, device, precisions, images, quick, folder))
    except MelanomaZooError as error:
        raise Failure(str(error), error.exit_code) from error
    except KeyboardInterrupt as error:
        raise Failure("stopped; finished readings are kept, and --resume takes them", 130) from error
    if failed:
        raise Failure(f"{said}; {folder / 'cuda-tests.txt'} says which failed", _FAILED)


if __name__ == "__main__":
    main(prog_name="python -m reports.gpu")
