"""Walks through the statements of Python text on standard input, one after another, as a reader does.

A statement that fails does not stop the walk. Prints each of these as JSON: its first line, and the last line it said.
"""

import ast
import json
import sys

names, failed = {"__name__": "__main__"}, []
for statement in ast.parse(sys.stdin.read()).body:
    text = ast.unparse(statement)
    try:
        exec(compile(text, "README.md", "exec"), names)
    except Exception as error:
        failed.append((text.splitlines()[0], f"{type(error).__name__}: {error}".strip().splitlines()[-1]))
print(json.dumps(failed))
