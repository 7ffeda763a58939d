"""Shows a trace in a notebook: its sizes, the means of its gates, and two small pictures. Needs only NumPy."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from glasscell._trace import Trace

Array = npt.NDArray[Any]

ACROSS, DOWN = 80, 40  # pixels of a picture at most: larger ones are averaged, for a notebook keeps every output
GREY = (195, 201, 207)
VIRIDIS = ((68, 1, 84), (62, 74, 137), (38, 130, 142), (53, 183, 121), (253, 231, 37))
SIGNED = ((33, 102, 172), (166, 205, 226), (247, 247, 245), (247, 190, 128), (192, 95, 16))
TABLE = "<table><thead><tr><th></th><th>mean</th><th>open (&gt; 0.9)</th><th>closed (&lt; 0.1)</th></tr></thead>"


def summary(trace: Trace) -> str:
    """Makes some kilobytes of HTML that show a trace, without its names."""
    B, T, H = trace.h.shape
    ran = np.ones((B, T), bool) if trace.mask is None else trace.mask
    skipped = "" if ran.all() else f", {int(ran.sum()):,} of {B * T:,} steps ran"
    heading = f"<b>glasscell.Trace</b>: {B:,} rows, {T:,} steps, {H:,} units{skipped}"
    if not ran.any() or not H:
        return f"<div>{heading}</div>"
    rows = "".join(_gate_row(name, getattr(trace, name)[ran]) for name in "ifo")
    row = int(np.flatnonzero(ran.any(1))[0])
    pictures = "".join(_picture(trace, name, row, ran[row]) for name in "fc")
    more = "<code>trace.report('page.html')</code> shows every step"
    return f"<div>{heading}{TABLE}<tbody>{rows}</tbody></table>{pictures}<div>{more}</div></div>"


def _gate_row(name: str, values: Array) -> str:
    shares = (f"{np.mean(share):.1%}" for share in (values > 0.9, values < 0.1))
    return f"<tr><th>{name}</th><td>{values.mean():.3f}</td>{''.join(f'<td>{share}</td>' for share in shares)}</tr>"


def _picture(trace: Trace, name: str, row: int, ran: Array) -> str:
    """Makes a captioned heat map of one row, time across and units down."""
    values = np.where(ran[:, None], getattr(trace, name)[row], np.nan).astype(np.float64)
    small = _averaged(_averaged(values, ACROSS).T, DOWN)
    largest = float(np.nanmax(np.abs(values)[np.isfinite(values)], initial=0)) or 1.0
    low, high, colours = (0.0, max(1.0, largest), VIRIDIS) if name == "f" else (-largest, largest, SIGNED)
    share = np.clip((small - low) / (high - low), 0, 1)
    indices = np.where(np.isfinite(share), np.nan_to_num(share) * 254 + 1, 0).astype(np.uint8)
    what = {"f": "forget gate", "c": "cell state"}[name]
    words = f"{name}, the {what}, of row {row}: time across, units down, from {low:.3g} to {high:.3g}"
    data = base64.b64encode(_png(indices, _palette(colours))).decode()
    style = "width:320px;height:120px;image-rendering:pixelated"
    return f'<div>{words}<br><img alt="{words}" style="{style}" src="data:image/png;base64,{data}"></div>'


def _averaged(values: Array, most: int) -> Array:
    """Averages rows down to at most `most`, over their numbers; NaN where there is none."""
    shares = np.array_split(values, min(most, len(values)))
    sums, counts = (np.stack([part.sum(0) for part in parts]) for parts in _known(shares))
    means: Array = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def _known(shares: list[Array]) -> tuple[list[Array], list[Array]]:
    known = [np.isfinite(share) for share in shares]
    return [np.where(mark, share, 0) for mark, share in zip(known, shares, strict=True)], known


def _palette(stops: tuple[tuple[int, int, int], ...]) -> bytes:
    """Makes 256 colours: grey for skipped steps, then a gradient between the stops."""
    places = np.linspace(0, 1, len(stops))
    between = [np.interp(np.linspace(0, 1, 255), places, part) for part in zip(*stops, strict=True)]
    return bytes(GREY) + np.stack(between, 1).round().astype(np.uint8).tobytes()


def _png(indices: Array, palette: bytes) -> bytes:
    """Encodes a PNG from palette indices, (height, width) uint8 (RFC 2083)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = indices.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), indices], 1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
