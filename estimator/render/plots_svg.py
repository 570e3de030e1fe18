"""A figure as SVG, written by hand: one file, no scripts, system fonts, readable when opened in an editor."""

from __future__ import annotations

from estimator.render.plots import FILLED, GREY, GRID, INK, Figure, Series, bars, clip, edges

WIDTH, HEIGHT = 900, 520
LEFT, RIGHT, TOP, BOTTOM = 86, 44, 56, 66
LETTER = 6.7  # pixels of a letter, about
_FONT = "font-family=\"-apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif\""


def svg(figure: Figure) -> str:
    """The figure as a complete SVG document."""
    longest = max((len(s.label) for s in figure.legend), default=0)
    right = RIGHT + (round(40 + LETTER * longest) if longest else 0)
    w, h = WIDTH - LEFT - right, HEIGHT - TOP - BOTTOM

    def at(p: tuple[float, float]) -> tuple[float, float]:
        return LEFT + p[0] * w, TOP + (1 - p[1]) * h

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'{_FONT} font-size="12" fill="{INK}">',
        f"<title>{_text(figure.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="30" font-size="15" font-weight="600">{_text(figure.title)}</text>',
    ]
    for value, label in figure.x.ticks():
        x, _ = at((figure.x.place(value), 0))
        out.append(f'<path d="M{x:.1f} {TOP}V{TOP + h}" stroke="{GRID}"/>')
        out.append(f'<text x="{x:.1f}" y="{TOP + h + 20}" text-anchor="middle">{_tick(label)}</text>')
    for value, label in figure.y.ticks():
        _, y = at((0, figure.y.place(value)))
        out.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + w}" stroke="{GRID}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_tick(label)}</text>')
    out.append(f'<path d="M{LEFT} {TOP}V{TOP + h}H{LEFT + w}" fill="none" stroke="{GREY}"/>')
    out.append(
        f'<text x="{LEFT + w / 2:.0f}" y="{TOP + h + 44}" text-anchor="middle" font-size="13">'
        f"{_text(figure.x.label)}</text>"
    )
    out.append(
        f'<text transform="translate(24 {TOP + h / 2:.0f}) rotate(-90)" text-anchor="middle" font-size="13">'
        f"{_text(figure.y.label)}</text>"
    )
    tags: list[float] = []
    for series in figure.series:
        pieces = [[at(p) for p in piece] for piece in clip(figure, series)]
        if series.kind == "bar":
            for left, right_edge, low, high in bars(figure, series):
                (start, upper), (end, foot) = at((left, high)), at((right_edge, low))
                out.append(_bar(series, start, upper, end - start, foot - upper))
            continue
        if series.kind == "area":
            below, above = ([at(p) for p in edge] for edge in edges(figure, series))
            corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*above, *reversed(below)])
            out.append(f'<polygon points="{corners}" fill="{series.paint}"/>')
            continue
        out += _series(series, pieces)
        if series.tag and pieces:
            out += _tag(series, pieces[-1][-1], TOP, LEFT + w, tags)
    for i, series in enumerate(figure.legend):
        y = TOP + 12 + 20 * i
        x = LEFT + w + RIGHT
        if series.kind in FILLED:
            out.append(_bar(series, x, y - 6, 22, 12))
        else:
            out += _series(series, [[(x + 11, y)]] if series.kind in ("dot", "ring") else [[(x, y), (x + 22, y)]])
        out.append(f'<text x="{x + 30}" y="{y + 4}">{_text(series.label)}</text>')
    if figure.note:
        out.append(f'<text x="{LEFT}" y="{HEIGHT - 8}" font-size="10.5" fill="{GREY}">{_text(figure.note)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _bar(series: Series, x: float, y: float, width: float, height: float) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{series.paint}"/>'


def _series(series: Series, pieces: list[list[tuple[float, float]]]) -> list[str]:
    if series.kind in ("dot", "ring"):
        style = (
            f'fill="{series.paint}" fill-opacity="0.75"'
            if series.kind == "dot"
            else f'fill="none" stroke="{series.paint}" stroke-width="1.3"'
        )
        marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{max(3.0, series.width):g}"/>' for ((x, y),) in pieces)
        return [f"<g {style}>{marks}</g>"]
    dash = ' stroke-dasharray="6 4"' if series.kind == "dash" else ""
    path = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in piece) for piece in pieces)
    return [
        f'<path d="{path}" fill="none" stroke="{series.paint}" stroke-width="{series.width}" '
        f'stroke-linejoin="round"{dash}/>'
    ]


def _tag(series: Series, end: tuple[float, float], top: float, right: float, used: list[float]) -> list[str]:
    """The label at the end of a line: beside it at the right frame, above it at the upper one; none on another."""
    x, y = end
    if series.kind == "dot":
        x, y = x - 2, y + 14  # below the line through it
    elif x < right - 1 and y < top + 1:
        if any(abs(x - u) < 34 for u in used):
            return []
        used.append(x)
        return [
            f'<text x="{x:.1f}" y="{top - 5:.1f}" text-anchor="middle" font-size="11" fill="{series.paint}">'
            f"{_text(series.tag)}</text>"
        ]
    return [f'<text x="{x + 4:.1f}" y="{y + 4:.1f}" font-size="11" fill="{series.paint}">{_text(series.tag)}</text>']


def _tick(label: str) -> str:
    """Unicode superscripts as raised digits, which every font draws alike."""
    digits = {
        "⁻": "−",
        "⁰": "0",
        "¹": "1",
        "²": "2",
        "³": "3",
        "⁴": "4",
        "⁵": "5",
        "⁶": "6",
        "⁷": "7",
        "⁸": "8",
        "⁹": "9",
    }
    head = label.rstrip("".join(digits))
    tail = "".join(digits[c] for c in label[len(head) :])
    return _text(head.replace("-", "−")) + (f'<tspan dy="-5" font-size="9">{tail}</tspan>' if tail else "")


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
