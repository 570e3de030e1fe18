"""Every formula of the documented examples in Markdown, set by KaTeX."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.programs import ROOT, documented, printed, program

pytestmark = pytest.mark.programs
KATEX = ROOT / "build" / "katex" / "node_modules" / "katex"
SET = """
const katex = require(process.argv[1]);
const bad = [];
for (const [tex, block] of JSON.parse(require('fs').readFileSync(0, 'utf8'))) {
  try { katex.renderToString(tex, {displayMode: block, throwOnError: true, strict: 'error'}); }
  catch (e) { bad.push([tex, String(e.message)]); }
}
console.log(JSON.stringify(bad));
"""


def test_every_formula_is_set():
    node = program("node", "nodejs")
    if not KATEX.is_dir():
        pytest.fail(f"no KaTeX in {KATEX.relative_to(ROOT)} (make programs installs it)")
    formulas: dict[str, bool] = {}
    for words in documented():
        text = printed(words, "markdown")
        text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
        for block in re.findall(r"\$\$(.+?)\$\$", text, re.S):
            formulas[block] = True
        for inline in re.findall(r"\$([^$\n]+)\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.S)):
            formulas[inline] = False
    assert len(formulas) > 250
    ran = subprocess.run(
        [node, "-e", SET, str(KATEX)], input=json.dumps(list(formulas.items())), capture_output=True, text=True,
        check=True, timeout=300,
    )  # fmt: skip
    assert json.loads(ran.stdout) == []
