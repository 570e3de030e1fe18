// Compiles a wheel's Python with the Pyodide that the site serves: node compile.mjs PYODIDE WHEEL TARGET.
// Importing SymPy from source costs the page seconds, from byte code one; only this Python's own byte code will do.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [place, wheel, target] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${place}/pyodide.mjs`).href);
const python = await loadPyodide({ indexURL: `${place}/` });
python.FS.writeFile("/from.zip", readFileSync(wheel));
python.runPython(`
import importlib.util, marshal, zipfile

with zipfile.ZipFile("/from.zip") as old, zipfile.ZipFile("/to.zip", "w", zipfile.ZIP_DEFLATED) as new:
    for name in old.namelist():
        if "/tests/" in name or "/benchmarks/" in name or name.endswith("/"):
            continue
        data = old.read(name)
        if name.endswith(".py"):
            code = compile(data, name, "exec", dont_inherit=True, optimize=0)
            data = importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)
            name += "c"
        new.writestr(name, data)
`);
writeFileSync(target, python.FS.readFile("/to.zip"));
