"""What is in a report page: its data, read back as NumPy reads it."""

import base64
import json
import re

import numpy as np


def data_of(path, name=None, cell=0):
    """The data of a page; or the array of this name of one of its cells."""
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    data = json.loads(found)
    if name is None:
        return data
    packed = data["cells"][cell]["arrays"][name]
    return np.frombuffer(base64.b64decode(packed["base64"]), "<f4").reshape(packed["shape"])
