"""The zoo: what each system is, and its networks.

>>> import zoo
>>> zoo.systems(group="baseline")
['baseline_b3']
>>> zoo.card("baseline_b3").folds
5
"""

from zoo.errors import MelanomaZooError

try:
    from zoo.card import System
    from zoo.registry import add_folder, build, builder, card, origin, register, systems, unregister
except ModuleNotFoundError as missing:
    # Networks alone can be assembled and timed where nothing but torch and timm is installed.
    if missing.name not in ("msgspec", "natsort"):
        raise

__all__ = [
    "MelanomaZooError",
    "System",
    "add_folder",
    "build",
    "builder",
    "card",
    "origin",
    "register",
    "systems",
    "unregister",
]

__version__ = "0.1.0"
