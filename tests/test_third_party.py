"""The headers in third_party/ are those of the oldest jaxlib that [keras] allows, and fit the installed one."""

import re
import tomllib
from importlib import metadata, util
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADERS = "xla/ffi/api"
OURS, THEIRS = ROOT / "third_party", Path(util.find_spec("jaxlib").origin).parent / "include"


def api_version(folder):
    text = (folder / HEADERS / "c_api.h").read_text()
    return tuple(int(re.search(rf"#define XLA_FFI_API_{part} (\d+)", text)[1]) for part in ("MAJOR", "MINOR"))


def headers(folder):
    return {path.name: path.read_text() for path in (folder / HEADERS).iterdir()}


def test_the_headers_are_those_of_the_oldest_jaxlib():
    (version,) = re.findall(r"as jaxlib ([\d.]+) ships them", (OURS / "README.md").read_text())
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"jax>={version}" in extras["keras"]
    if metadata.version("jaxlib") == version:
        assert headers(OURS) == headers(THEIRS)


def test_the_installed_jaxlib_takes_a_call_of_these_headers():
    """JAX refuses another major version, and a minor version above its own."""
    (major, minor), (their_major, their_minor) = api_version(OURS), api_version(THEIRS)
    assert major == their_major
    assert minor <= their_minor


def test_each_header_carries_its_licence():
    for name, text in headers(OURS).items():
        assert "Licensed under the Apache License, Version 2.0" in text[:200], name
