"""A report as one HTML page that holds its images and needs nothing else."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any

from PIL import Image

from fastseg.echo.output.curve import describe, draw_curve
from fastseg.echo.report import Row, Study
from fastseg.environment import versions
from fastseg.inputs.text import printable
from fastseg.provenance import NOTICE

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff;
  max-width: 64rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #c8ced6; }
.notice { border: 2px solid #8a4b00; background: #fff6e8; padding: .6rem .9rem; }
.caution { border-left: 4px solid #8a4b00; padding: .2rem .8rem; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid #e3e7ec; overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid #5b6470; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; break-inside: avoid; }
img { max-width: 100%; height: auto; display: block; }
figcaption, footer { font-size: .85rem; color: #414a55; }
@media print { body { padding: 0; font-size: 11pt; } h2 { break-after: avoid; }
  tr { break-inside: avoid; } }
"""


_SAVING: dict[str, dict[str, Any]] = {"jpeg": {"quality": 88}, "png": {"compress_level": 6}}
"""Pillow's options by format."""


@dataclass(frozen=True, slots=True)
class PageImage:
    """A image of the page with a caption, and the words for those who do not see it."""

    image: Image.Image
    caption: str
    words: str

    is_photograph: bool = True
    """False of lines and letters, which are kept to the pixel."""


def as_page(study: Study, images: Sequence[PageImage] = ()) -> str:
    """Write a report as one HTML page, with the area curves and more images inside.

    Args:
        study: The report.
        images: Further images: the frames that count.
    """
    title = f"Echo report {study.patient}".strip()
    found = [row for row in study.rows if not math.isnan(row.value)]
    missing = [row for row in study.rows if math.isnan(row.value)]
    curves = [
        PageImage(
            draw_curve(curve),
            f"{curve.chamber} in {curve.view}: beats by the {curve.found_by}.",
            describe(curve),
            is_photograph=False,
        )
        for curve in study.curves
        if len(curve.areas_cm2) > 1
    ]
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>{_text(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head>",
        "<body><main>",
        f"<h1>{_text(title)}</h1>",
        f'<p class="notice"><strong>{_text(NOTICE)}</strong></p>',
        *(f'<p class="caution"><strong>Caution:</strong> {_text(one)}</p>'
          for one in study.cautions),
        *_values(found),
        *_section("Area over the beat", curves),
        *_section("Frames that count", images),
        *_reasons(missing),
        "</main>",
        f"<footer><p>fastseg {_text(versions()['fastseg'])}. Methods, limits and their sources: "
        f"docs/echo.md. {_text(NOTICE)}</p></footer>",
        "</body></html>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _values(rows: Sequence[Row]) -> Iterable[str]:
    yield "<h2>Measurements</h2>"
    if not rows:
        yield "<p>No measurement has a value.</p>"
        return
    heads = ("measurement", "value", "unit", "over beats", "caution")
    yield "<table><caption>Medians over the beats, with the least and the largest</caption>"
    cells = "".join(
        f'<th scope="col"{_right(head in ("value", "over beats"))}>{head}</th>' for head in heads
    )
    yield f"<thead><tr>{cells}</tr></thead><tbody>"
    for row in rows:
        spread = f"{row.low:.1f} to {row.high:.1f} ({row.beats})" if row.beats > 1 else ""
        yield (
            f'<tr><th scope="row">{_text(row.title)}</th>'
            f'<td class="number">{row.value:.1f}</td><td>{_unit(row.unit)}</td>'
            f'<td class="number">{spread}</td><td>{_text(row.caution)}</td></tr>'
        )
    yield "</tbody></table>"


def _reasons(rows: Sequence[Row]) -> Iterable[str]:
    if not rows:
        return
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(row.reason, []).append(row.title)
    yield "<h2>Withheld</h2>"
    yield "<table><caption>Measurements without a value, and the reason</caption>"
    yield '<thead><tr><th scope="col">measurements</th><th scope="col">reason</th></tr></thead>'
    yield "<tbody>"
    for reason, titles in by_reason.items():
        yield f"<tr><td>{_text(', '.join(titles))}</td><td>{_text(reason)}</td></tr>"
    yield "</tbody></table>"


def _section(title: str, images: Sequence[PageImage]) -> Iterable[str]:
    if images:
        yield f"<h2>{title}</h2>"
    for image in images:
        stream = BytesIO()
        kind = "jpeg" if image.is_photograph else "png"
        image.image.save(stream, kind, **_SAVING[kind])
        code = base64.b64encode(stream.getvalue()).decode("ascii")
        width, height = image.image.size
        yield (
            f'<figure><img src="data:image/{kind};base64,{code}" width="{width}" height="{height}" '
            f'alt="{_text(image.words)}"><figcaption>{_text(image.caption)}</figcaption>'
            "</figure>"
        )


def _right(number: bool) -> str:
    return ' class="number"' if number else ""


def _unit(unit: str) -> str:
    return _text(unit).replace("m2", "m<sup>2</sup>")


def _text(text: str) -> str:
    return escape(printable(text), quote=True)
