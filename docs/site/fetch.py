"""Other people's files that the site serves: KaTeX and Pyodide from npm, Python packages as wheels.

They are fetched once into ``.cache/site/`` (git-ignored) at the versions named here, checked, and copied into the site,
so that no page asks anyone else for anything.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "site"
# npm package -> version, SHA-256 of its archive, and what of it the site serves
NPM = {
    "katex": (
        "0.19.1",
        "24da5a599eb2fcede2e270b99a6ff48bca816beecc95feeb84e8cccbd1bb34fd",
        ("dist/katex.min.js", "dist/katex.min.css", "dist/contrib/auto-render.min.js", "dist/fonts/*.woff2", "LICENSE"),
    ),
    "pyodide": (
        "314.0.7",
        "66b7949e5a0cba2250b586d7e368bf12fb482800748d182c4618254b685ffaa0",
        ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"),
    ),
}
# what the program imports in the page: the versions installed beside it, all pure Python; SymPy comes last
WHEELS = ("typer", "annotated-doc", "shellingham", "mpmath", "sympy")


def npm(name: str) -> dict[str, Path]:
    """The files of an npm package that the site serves: path inside the package -> file of the cache."""
    number, digest, wanted = NPM[name]
    archive = CACHE / f"{name}-{number}.tgz"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        if shutil.which("npm") is None:
            raise SystemExit(f"make site: {name} comes from the npm registry: install npm (Debian: apt install npm)")
        _run(["npm", "pack", "--silent", f"{name}@{number}"], f"{name} {number} from the npm registry")
    if hashlib.sha256(archive.read_bytes()).hexdigest() != digest:
        archive.unlink()
        raise SystemExit(f"make site: {name} {number} is not the archive that docs/site/fetch.py names")
    place = CACHE / f"{name}-{number}"
    if not place.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(place, filter="data")
    inside = place / "package"
    return {p.relative_to(inside).as_posix(): p for pattern in wanted for p in sorted(inside.glob(pattern))}


def wheels() -> list[Path]:
    """What the page imports: the project's own wheel first, then the others as byte code of the page's Python."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob("llmcalc_estimator-*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "wheel", "--no-deps", "--wheel-dir", str(CACHE), str(ROOT)], "the project's own wheel (hatchling)")
    found = sorted(CACHE.glob("llmcalc_estimator-*.whl"))
    for name in WHEELS:
        pattern = f"{name.replace('-', '_')}-{version(name)}-*.whl"
        if not list(CACHE.glob(pattern)):
            need = f"{name}=={version(name)}"
            _run([*pip, "download", "--no-deps", "--only-binary", ":all:", "--dest", str(CACHE), need], need)
        found += [compiled(wheel) for wheel in sorted(CACHE.glob(pattern))]
    return found


def compiled(wheel: Path) -> Path:
    """A wheel without tests and with byte code for source, by the Pyodide that the site serves (compile.mjs)."""
    runtime = npm("pyodide")["pyodide.mjs"].parent
    target = CACHE / f"{wheel.stem}.{NPM['pyodide'][0]}.zip"
    if not target.exists():
        program = Path(__file__).with_name("compile.mjs")
        _run(["node", str(program), str(runtime), str(wheel), str(target)], f"the byte code of {wheel.name}")
    return target


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"{command[0]} ended with {done.returncode}"]
        raise SystemExit(f"make site: could not get {what}: {why[0][:200]}. Is the registry reachable?")
