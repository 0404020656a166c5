"""Draw plots as SVG, for light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from jinja2 import Environment

_COLOURS = ("#2f6fde", "#d9822b", "#3a9d5d", "#b5468b", "#7a7f87", "#c23b3b")
_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _TOP = 720, 190, 70, 16, 14, 64
_PLOT_HEIGHT = 300

_SVG = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" \
width="{{ width }}" height="{{ height }}" role="img" font-family="sans-serif" font-size="12">
<title>{{ title }}</title>
<rect width="{{ width }}" height="{{ height }}" fill="#ffffff"/>
<text x="12" y="22" font-size="15" fill="#202428">{{ title }}</text>
{% for name, colour in legend %}
<rect x="{{ 12 + loop.index0 * 150 }}" y="36" width="11" height="11" fill="{{ colour }}"/>
<text x="{{ 28 + loop.index0 * 150 }}" y="46" fill="#202428">{{ name }}</text>
{% endfor %}
{% for line in lines %}
<line x1="{{ line.x1 }}" y1="{{ line.y1 }}" x2="{{ line.x2 }}" y2="{{ line.y2 }}" \
stroke="{{ line.colour }}" stroke-width="{{ line.thick }}"/>
{% endfor %}
{% for box in boxes %}
<rect x="{{ box.x }}" y="{{ box.y }}" width="{{ box.width }}" height="{{ box.height }}" \
fill="{{ box.colour }}"/>
{% endfor %}
{% for text in texts %}
<text x="{{ text.x }}" y="{{ text.y }}" text-anchor="{{ text.anchor }}" fill="#202428">\
{{ text.label }}</text>
{% endfor %}
</svg>
""")


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class _Line:
    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    thick: float = 1


@dataclass(frozen=True)
class _Text:
    x: float
    y: float
    label: str
    anchor: str = "start"


def ticks(largest: float) -> list[float]:
    """Return four to six round steps from 0 on, the last one not smaller than LARGEST."""
    if largest <= 0:
        return [0.0, 1.0]
    size = 10 ** math.floor(math.log10(largest))
    step = next(s * size / 10 for s in (1, 2, 5, 10, 20) if largest / (s * size / 10) <= 6)
    return [round(step * number, 10) for number in range(math.ceil(largest / step - 1e-9) + 1)]


def short(value: float) -> str:
    """Return a number as a plot shows it, with three digits."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Draw horizontal bars.

    + groups: the values of each group, by the name of the series
    """
    series = list(dict.fromkeys(name for values in groups.values() for name in values))
    colours = dict(zip(series, _COLOURS * len(series), strict=False))
    scale = ticks(max((v for values in groups.values() for v in values.values()), default=0))
    per = (_WIDTH - _LEFT - _RIGHT) / scale[-1]
    boxes, texts, y = [], [], float(_TOP)
    for group, values in groups.items():
        middle = y + len(values) * _BAR / 2 + 4
        texts.append(_Text(_LEFT - 8, middle, group, "end"))
        for name, value in values.items():
            boxes.append(_Box(_LEFT, y, max(round(value * per, 1), 1), _BAR - 2, colours[name]))
            texts.append(_Text(round(_LEFT + value * per + 4, 1), y + _BAR - 5, short(value)))
            y += _BAR
        y += _GAP
    lines = [
        _Line(round(_LEFT + t * per, 1), _TOP - 6, round(_LEFT + t * per, 1), y, "#d8dce1")
        for t in scale
    ]
    texts += [_Text(round(_LEFT + t * per, 1), y + 14, short(t), "middle") for t in scale]
    texts.append(_Text(_WIDTH - 12, y + 30, unit, "end"))
    return _render(title, y + 40, colours, lines, boxes, texts)


def curves(
    title: str, across: str, up: str, series: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """Draw lines through points.

    + across, up: names of the axes
    + series: points by the name of each line
    """
    colours = dict(zip(series, _COLOURS * len(series), strict=False))
    wide = ticks(max((x for points in series.values() for x, _ in points), default=0))
    high = ticks(max((y for points in series.values() for _, y in points), default=0))
    left, bottom = 60, _TOP + _PLOT_HEIGHT

    def place(x: float, y: float) -> tuple[float, float]:
        span = _WIDTH - left - _RIGHT
        return (
            round(left + x * span / wide[-1], 1),
            round(bottom - y * _PLOT_HEIGHT / high[-1], 1),
        )

    lines, boxes, texts = [], [], []
    for t in high:
        _, y = place(0, t)
        lines.append(_Line(left, y, _WIDTH - _RIGHT, y, "#d8dce1"))
        texts.append(_Text(left - 6, y + 4, short(t), "end"))
    texts += [_Text(place(t, 0)[0], bottom + 16, short(t), "middle") for t in wide]
    for name, points in series.items():
        placed = [place(*point) for point in points]
        for (x1, y1), (x2, y2) in pairwise(placed):
            lines.append(_Line(x1, y1, x2, y2, colours[name], 2))
        boxes += [_Box(x - 3, y - 3, 6, 6, colours[name]) for x, y in placed]
    texts += [_Text(12, _TOP - 4, up), _Text(_WIDTH - 12, bottom + 34, across, "end")]
    return _render(title, bottom + 44, colours, lines, boxes, texts)


def _render(
    title: str,
    height: float,
    colours: Mapping[str, str],
    lines: Sequence[_Line],
    boxes: Sequence[_Box],
    texts: Sequence[_Text],
) -> str:
    return _SVG.render(
        title=title,
        width=_WIDTH,
        height=round(height),
        legend=list(colours.items()),
        lines=lines,
        boxes=boxes,
        texts=texts,
    )
