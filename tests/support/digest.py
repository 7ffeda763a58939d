"""Run as a script in a fresh process: prints the target in use and a digest of all its output and gradient bits.

The instruction set is chosen once for a process, by GLASSCELL_TARGET. Every case is held against the reference too.
"""

import hashlib
import json

import numpy as np

from cases import make_case, run
from compare import assert_close
from glasscell import show_config


def digest(cases: int = 40) -> str:
    found = hashlib.sha256()
    for seed in range(cases):
        case = make_case(seed)
        results, expected = run(case, "native"), run(case, "reference")
        for name, value in expected.items():
            assert_close(results[name], value, 1e-12, f"{name} of {case}")
        for values in (results, run(case, "native", np.float32)):
            for name, value in values.items():
                found.update(f"{name}{value.shape}{value.dtype}".encode())
                found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    print(json.dumps({"target": show_config()["target"], "digest": digest()}))
