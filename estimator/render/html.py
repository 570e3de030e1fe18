"""HTML: one self-contained page. Formulas as MathML, the picture as SVG, tables that sort; every text escaped.

``fragment`` is the same without the page around it, for a notebook's cell.
"""

from __future__ import annotations

from html import escape
from typing import Any

from estimator.errors import InputError
from estimator.render.cells import (
    bar_share,
    barred,
    cell_text,
    counted_line,
    exact,
    facts,
    in_letters,
    number_of,
    shown,
    value_line,
    with_unit,
)
from estimator.render.layout import is_text
from estimator.report import Cell, Node, Report, Table, Text
from estimator.trace import Traced, value_of

STYLE = """
.llmcalc{font:15px/1.45 system-ui,"Segoe UI",Helvetica,Arial,sans-serif;color:#222;
 max-width:68rem;margin:0 auto;padding:0 1rem}
.llmcalc h1{font-size:1.35rem;margin:.2em 0}.llmcalc h2{font-size:1.1rem;margin:1.4em 0 .3em}
.llmcalc .verdict{font-size:1.05rem;padding:.5em .8em;border-left:4px solid #8a8f98;background:#f5f6f7}
.llmcalc .yes{border-color:#009e73}.llmcalc .tight{border-color:#e69f00}.llmcalc .no{border-color:#d55e00}
.llmcalc .wide{overflow-x:auto}.llmcalc table{border-collapse:collapse;margin:.5em 0}
.llmcalc td,.llmcalc th{padding:.2em .7em;border-bottom:1px solid #e6e8eb;text-align:left;vertical-align:top}
.llmcalc .n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.llmcalc th{background:#f5f6f7}.llmcalc th button{all:unset;cursor:pointer}
.llmcalc th button:focus-visible{outline:2px solid #0072b2}.llmcalc th[aria-sort]:after{content:" \\2193";color:#0072b2}
.llmcalc th[aria-sort=ascending]:after{content:" \\2191"}
.llmcalc .g{font-weight:600}.llmcalc .dim{color:#5d6470}
.llmcalc .bar{background:#0072b2;height:.65em;display:inline-block}
.llmcalc pre{overflow-x:auto;line-height:1.25}.llmcalc svg{max-width:100%;height:auto}
.llmcalc .step{overflow-x:auto;padding:.12em 0 .12em 1.5em}.llmcalc .why{color:#5d6470;margin-left:1.5em}
.llmcalc ul{margin:.3em 0}@media print{.llmcalc .wide{overflow:visible}}
"""
# a click on a heading sorts its table: numbers by their exact value, words by the alphabet; a second click turns it
SCRIPT = """
document.querySelectorAll('.llmcalc th button').forEach(function(b){b.onclick=function(){
var th=b.parentNode,t=th.closest('table'),i=th.cellIndex,up=th.getAttribute('aria-sort')!=='ascending';
t.querySelectorAll('th').forEach(function(h){h.removeAttribute('aria-sort')});
th.setAttribute('aria-sort',up?'ascending':'descending');
var rows=Array.from(t.tBodies[0].rows);
var key=function(r){var v=r.cells[i].dataset.v;return v===undefined?r.cells[i].textContent:Number(v)};
rows.sort(function(p,q){var a=key(p),c=key(q);
var d=typeof a==='number'&&typeof c==='number'?a-c:String(a).localeCompare(String(c));return up?d:-d});
rows.forEach(function(r){t.tBodies[0].appendChild(r)})}})
"""


def render(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as a page of its own."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n</head>\n<body>\n"
        f"{fragment(report, derived, derive)}\n</body>\n</html>\n"
    )


def fragment(report: Report, derived: Any = None, derive: bool = False) -> str:
    """The report as one element with its style and the script that sorts tables."""
    page = _Page(report, derived)
    out = [f"<h1>{escape(report.title)}</h1>"]
    if report.verdict:
        out.append(f'<p class="verdict {escape(str(report.facts.get("fits", "")))}">{escape(report.verdict)}</p>')
    for part in report.body:
        if isinstance(part, Node):
            out += page.tree(part)
        elif isinstance(part, Table):
            out += page.table(part)
        elif isinstance(part, Text):
            out += [f"<h2>{escape(part.title)}</h2>"] if part.title else []
            out.append(f"<pre>{escape(part.body.rstrip())}</pre>")
    out += _list("Results", [f"{key}: {word}" for key, word in facts(report)])
    out += _picture(report)
    if derive and derived and derived.found:
        out += _derivations(derived)
    out += _list("Assumptions", report.assumptions)
    out += _sources(report)
    body = "\n".join(out)
    return f'<div class="llmcalc">\n<style>{STYLE}</style>\n{body}\n<script>{SCRIPT}</script>\n</div>'


def _picture(report: Report) -> list[str]:
    from estimator.render.plots_svg import svg

    if report.figure is None:
        return []
    try:
        return [f"<figure>{svg(report.figure())}</figure>"]
    except InputError:  # nothing to draw: a model in letters
        return []


class _Page:
    """A report's values as cells, its expressions as MathML."""

    def __init__(self, report: Report, derived: Any) -> None:
        self.report = report
        self.text, self.names = in_letters(report, derived)

    def expression(self, value: Traced, unit: str) -> str:
        """A symbolic value as MathML, with its unit."""
        from estimator.printing import Written
        from estimator.tidying import tidy

        assert self.names is not None
        made = Written(tidy(value.expr), self.names).mathml
        return escape(with_unit("\0", unit)).replace("\0", made)

    def tree(self, root: Node) -> list[str]:
        rows: list[str] = []
        bars = barred(root, self.report)

        def walk(node: Node, depth: int, whole: Any) -> None:
            note = f' <span class="dim">{escape(node.note)}</span>' if node.note else ""
            group = ' class="g"' if node.unit is None else ""
            cells = f'<td{group} style="padding-left:{0.7 + 1.2 * depth}em">{escape(node.label)}{note}</td>'
            if self.report.symbolic and isinstance(node.value, Traced) and node.unit:
                cells += f'<td class="n">{self.expression(node.value, node.unit.name)}</td><td></td>'
            else:
                cells += f'<td class="n">{escape(shown(node, self.report, self.text, self.names))}</td>'
                cells += f'<td class="n dim">{exact(node, self.report)}</td>'
            if bars:
                share = float(value_of(node.value)) / whole if whole and node.value is not None else None
                cells += f"<td>{_bar(share)}</td>"
            rows.append(f"<tr>{cells}</tr>")
            for child in node.children:
                walk(child, depth + 1, float(value_of(node.value)) if node.how == "sum" else None)

        for node in (root,) if root.label else root.children:
            walk(node, 0, None)
        return ['<div class="wide"><table>', *rows, "</table></div>"]

    def table(self, table: Table) -> list[str]:
        out = [f"<h2>{escape(table.title)}</h2>"] if table.title else []
        numeric = [i > 0 and not is_text(table, i) for i in range(len(table.columns))]
        heads = "".join(
            f"<th{' class=n' if n else ''}><button>{escape(c) or '&nbsp;'}</button></th>"
            for c, n in zip(table.columns, numeric, strict=True)
        )
        out += [f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>']
        for row in table.rows:
            out.append("<tr>" + "".join(self.cell(c, n) for c, n in zip(row, numeric, strict=True)) + "</tr>")
        out.append("</tbody></table></div>")
        return [*out, f'<p class="dim">{escape(table.note)}</p>'] if table.note else out

    def cell(self, cell: str | Cell | None, numeric: bool) -> str:
        kind = ' class="n"' if numeric else ""
        if not isinstance(cell, Cell):
            return f"<td{kind}>{escape(cell_text(cell)).replace(chr(10), '<br>')}</td>"
        if self.names is not None and isinstance(cell.value, Traced):
            return f"<td{kind}>{self.expression(cell.value, cell.unit.name)}</td>"
        value = value_of(cell.value)
        order = "" if value is None else f' data-v="{escape(str(float(value)))}"'
        return f"<td{kind}{order}>{escape(cell_text(cell))}</td>"


def _bar(share: float | None) -> str:
    if share is None:
        return ""
    width, words = bar_share(share)
    return f'<span class="bar" style="width:{7 * width:.2f}em"></span> {words}'


def _derivations(derived: Any) -> list[str]:
    out = ["<h2>Derivation</h2>", '<div class="wide"><table>']
    for s in derived.letters:
        out.append(
            f'<tr><td><math>{s.mathml}</math></td><td class="n">{escape(number_of(s))}</td><td>{escape(s.meaning)}</td>'
            f'<td class="dim">{escape(s.field)}</td></tr>'
        )
    out.append("</table></div>")
    for d in derived.worked():
        also = f", the same: {'; '.join(d.also)}" if d.also else ""
        out.append(f'<section><p><b>{escape(d.label)}</b> <span class="dim">{escape(d.key + also)}</span></p>')
        out += _steps(d)
        out += [f'<p class="dim">{_linked(d.source)}</p>'] if d.source else []
        out.append("</section>")
    return out


def _steps(d: Any) -> list[str]:
    letters_only = d.put is None
    if d.same:
        value = f"{d.written.mathml} {escape(d.unit)}" if letters_only else escape(value_line(d))
        return [_step(value, f"the same as: {d.same}")]
    out = []
    for line in d.brief:
        unit = f" {escape(with_unit('', d.unit).strip())}" if letters_only and line is d.brief[-1] else ""
        if line.items:
            out += _counted(line)
        if line.given:
            given = ", ".join(f"{escape(name)} = {value.mathml}" for name, value in line.given)
            out.append(f'<div class="step">{escape(line.rule)} {given}</div>')
        elif line.written is None:
            out += [] if line.items else [f'<div class="step">{escape(line.rule)}:</div>']
        elif not line.items or len(line.items) > 1 or unit:
            left = f"{escape(line.left)} " if line.left else ""
            out.append(_step(line.written.mathml + unit, "" if line.items else line.rule, left))
    if not d.brief:
        out.append(_step(d.written.mathml + (f" {escape(with_unit('', d.unit).strip())}" if letters_only else ""), ""))
    if not letters_only:
        if d.puts:
            out.append(_step(d.put.mathml, "numbers put in"))
        out.append(_step(f"<b>{escape(value_line(d))}</b>", ""))
    return out


TALL = '<math displaystyle="true">'  # fractions in full size


def _step(made: str, why: str, left: str = "") -> str:
    reason = f'<span class="why">({escape(why)})</span>' if why else ""
    return f'<div class="step">{left}= {made.replace("<math>", TALL)}{reason}</div>'


def _counted(line: Any) -> list[str]:
    rows = []
    for item in line.items:
        names, parts, each, term = counted_line(item, "mathml", "<math>{}</math>")
        shapes = ", ".join(f"{escape(name)} {shape}".strip() for name, shape in parts)
        rows.append(f"<li>{escape(names)}: {shapes}{each} = {term}</li>")
    return [f'<div class="step">{escape(line.rule)}:<ul>', *rows, "</ul></div>"]


def _list(title: str, lines: Any) -> list[str]:
    return [f"<h2>{title}</h2>", "<ul>", *(f"<li>{escape(x)}</li>" for x in lines), "</ul>"] if lines else []


def _sources(report: Report) -> list[str]:
    found = [_linked(str(c)) for c in report.sources()]
    return ["<h2>Sources</h2>", "<ul>", *(f"<li>{x}</li>" for x in found), "</ul>"] if found else []


def _linked(text: str) -> str:
    """A citation with its address as a link; only the web's addresses become one."""
    words, _, url = text.partition(" <")
    url = url.removesuffix(">")
    if not url.startswith(("https://", "http://")):
        return escape(text)
    return f'{escape(words)} <a href="{escape(url, quote=True)}">{escape(url)}</a>'
