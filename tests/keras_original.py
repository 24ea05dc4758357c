"""Writes files of third place with TensorFlow and the package `efficientnet`, as its authors did.

Run by `tests/test_third_place.py` with a Python that has both: `python keras_original.py FOLDER`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(folder: Path) -> None:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # the package is of Keras 2
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import efficientnet.tfkeras
    import numpy as np
    import tensorflow as tf

    backbone = efficientnet.tfkeras.EfficientNetB6(input_shape=(64, 64, 3), weights=None, include_top=False)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [backbone, layers.GlobalAveragePooling2D(), layers.Dense(1, activation="sigmoid")]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy")
    random = np.random.default_rng(0)
    for weight in model.weights:
        z = random.standard_normal(weight.shape)
        if weight.name.endswith("moving_variance:0"):
            value = 0.5 + 0.5 * abs(z)
        elif weight.name.endswith("depthwise_kernel:0"):
            value = z * np.sqrt(1.5 / np.prod(weight.shape[:2]))
        elif len(weight.shape) > 1:
            value = z * np.sqrt(1.5 / np.prod(weight.shape[:-1]))
        else:
            value = weight.name.endswith("gamma:0") + 0.1 * z
        weight.assign(value.astype("float32"))
    image = random.standard_normal((2, 64, 64, 3)).astype("float32")
    np.savez(folder / "expected.npz", image=image, probability=model(image, training=False).numpy())
    model.save(folder / "whole.h5")
    model.save_weights(folder / "weights.h5")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
