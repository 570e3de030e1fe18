// Python in a thread of its own: loads Pyodide and the wheels of this site, then answers command lines.
const began = performance.now();
let python, page;

async function load() {
  const { loadPyodide } = await import("./pyodide/pyodide.mjs");
  const here = new URL(".", self.location.href).href;
  const { wheels } = await (await fetch("lists.json")).json();
  const files = wheels.map((name) => fetch(`wheels/${name}`).then((r) => r.arrayBuffer()));
  python = await loadPyodide({ indexURL: here + "pyodide/", env: { COLUMNS: "100", NO_COLOR: "1", HOME: "/home/model" } });
  // the program's own wheel comes first and is unpacked, for its presets are files; the others are imported as they are
  python.unpackArchive(await files[0], "zip", { extractDir: "/lib/site" });
  const path = ["/lib/site"];
  for (let i = 1; i < files.length; i++) {
    path.push(`/lib/${wheels[i]}`);
    python.FS.writeFile(path[i], new Uint8Array(await files[i]));
  }
  python.globals.set("path", python.toPy(path));
  python.runPython("import os, sys; sys.path[:0] = path; os.chdir('/home/model')");
  page = python.pyimport("estimator.page");
}

const ready = load().then(
  () => postMessage({ ready: performance.now() - began }),
  (error) => postMessage({ failed: String(error) }),
);

onmessage = async ({ data }) => {
  await ready;
  if (!page) return;
  if (data.file) python.FS.writeFile(data.file.name, data.file.text);
  else if ("warm" in data) postMessage({ warmed: data.warm, more: page.warm(data.warm) });
  else {
    const start = performance.now();
    const answer = page.reply(data.line);
    postMessage({ id: data.id, answer: JSON.parse(answer), took: performance.now() - start });
  }
};
