"""Writes _static/cell/trained.json, the small trained cell of cell.md, from a model of `glasscell train`.

glasscell train --units 8 --output runs/eight
python docs/trained.py runs/eight
"""

import json
import sys
from pathlib import Path

import keras

import glasscell.keras  # noqa: F401  the layer in the file

RUN = Path(sys.argv[1])
TO = Path(__file__).parent / "_static" / "cell" / "trained.json"

model = keras.models.load_model(RUN / "model.keras")
kernel, recurrent_kernel, bias = model.get_layer("lstm").get_weights()
dense_kernel, dense_bias = model.get_layer("speaker").get_weights()
scale = model.get_layer("scale")
arrays = {
    "kernel": kernel,
    "recurrent_kernel": recurrent_kernel,
    "bias": bias,
    "dense_kernel": dense_kernel,
    "dense_bias": dense_bias,
    "mean": keras.ops.convert_to_numpy(scale.mean).ravel(),
    "variance": keras.ops.convert_to_numpy(scale.variance).ravel(),
}
accuracy = json.loads((RUN / "metrics.json").read_text())["accuracy"]
lines = [f'"accuracy": {accuracy!r}']
# The shortest decimal of each float32, which reads back as the same bits.
lines += [f'"{name}": ' + str([[*map(str, row)] for row in a] if a.ndim > 1 else [*map(str, a)]).replace("'", "")
          for name, a in arrays.items()]  # fmt: skip
TO.write_text("{\n" + ",\n".join(lines) + "\n}\n")
