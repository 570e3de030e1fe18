// The live page: a form that writes a command line, and the report that Python gives for it.
const here = new URL("./", document.currentScript.src);

const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made[key] = value;
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};

async function start(place) {
  const { QUESTIONS, line, values } = await import(new URL("questions.js", here));
  const lists = await (await fetch(new URL("lists.json", here))).json();
  const worker = new Worker(new URL("worker.js", here), { type: "module" });
  const state = { question: "run", model: "llama-3.1-8b", gpu: "rtx-4090" };
  let asked = 0, config = null, latest = "";

  const tabs = make("div", { class: "try-tabs", role: "tablist", "aria-label": "Question" });
  const form = make("form", { class: "try-form", onsubmit: (e) => e.preventDefault() });
  const typed = make("input", { class: "try-line", "aria-label": "Command line", spellcheck: "false", autocapitalize: "off" });
  const status = make("p", { class: "try-status", role: "status" }, "Loading Python ...");
  const report = make("div", { class: "try-report", "aria-live": "polite" });
  const switches = { "--derive": "Show the working of every number", "--detail": "Every row" };
  const boxes = Object.fromEntries(Object.keys(switches).map((s) => [s, make("input", { type: "checkbox", onchange: () => write() })]));
  const paste = make("textarea", { rows: 6, placeholder: "{ \"model_type\": \"llama\", ... }", "aria-label": "config.json",
    spellcheck: "false", oninput: () => take(paste.value) });
  const own = make("details", { class: "try-config" },
    make("summary", {}, "A model of your own: paste its config.json, or drop the file here"), paste);
  const copy = (button, text) => navigator.clipboard.writeText(text).then(() => {
    const was = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = was; }, 1200);
  });
  place.replaceChildren(tabs, form, own,
    make("div", { class: "try-ask" }, make("span", { class: "try-prompt", "aria-hidden": "true" }, "$"), typed,
      make("button", { class: "md-button", type: "button", onclick: (e) => copy(e.target, typed.value) }, "Copy"),
      make("button", { class: "md-button", type: "button", onclick: (e) => copy(e.target, location.href) }, "Link"),
      make("button", { class: "md-button md-button--primary", type: "button", onclick: () => ask() }, "Ask")),
    make("div", { class: "try-switches" }, ...Object.entries(boxes).map(([s, box]) => make("label", {}, box, ` ${switches[s]}`))),
    status, report);

  function pick(question) {
    state.question = question;
    for (const [option, field] of Object.entries(QUESTIONS[question].fields)) state[option] = field.value ?? "";
    draw();
    write();
  }

  function field(label, input) {
    return make("label", {}, make("span", {}, label), input);
  }

  function input(option, f) {
    const set = (e) => { state[option] = e.target.value.trim(); write(); };
    if (f.kind === "text") {
      return make("input", { value: state[option] ?? "", size: f.size, name: option, onchange: set, list: f.list, spellcheck: "false" });
    }
    const choices = (f.of === "methods" ? lists.methods : f.of).map((c) => (Array.isArray(c) ? c : [c, c]));
    const chosen = state[option] ?? "";
    if (!choices.some(([value]) => value === chosen)) choices.push([chosen, chosen]);
    return make("select", { name: option, onchange: set },
      ...choices.map(([value, words]) => make("option", { value, selected: value === chosen }, words)));
  }

  function draw() {
    tabs.replaceChildren(...Object.entries(QUESTIONS).map(([name, q]) => make("button",
      { type: "button", role: "tab", "aria-selected": String(name === state.question), onclick: () => pick(name) }, q.title)));
    const q = QUESTIONS[state.question];
    const names = config ? ["config.json", ...lists.models] : lists.models;
    form.replaceChildren(
      make("datalist", { id: "try-models" }, ...[...names, "symbolic"].map((m) => make("option", { value: m }))),
      make("datalist", { id: "try-gpus" }, ...lists.gpus.map((g) => make("option", { value: g }))),
      field("Model", input("model", { kind: "text", size: 22, list: "try-models" })),
      ...(q.gpu ? [field("GPU", input("gpu", { kind: "text", size: 16, list: "try-gpus" }))] : []),
      ...Object.entries(q.fields).map(([option, f]) => field(f.label, input(option, f))));
  }

  function write() {
    typed.value = [line(state), ...Object.keys(boxes).filter((s) => boxes[s].checked)].join(" ");
    ask();
  }

  // The form as a command line says, where one of its questions is that line.
  function follow(text) {
    let rest = text;
    for (const [s, box] of Object.entries(boxes)) {
      box.checked = rest.split(/\s+/).includes(s);
      rest = rest.replace(` ${s}`, "");
    }
    const found = values(rest);
    if (!found) return;
    for (const option of Object.keys(QUESTIONS[found.question].fields)) state[option] = "";
    Object.assign(state, found);
    draw();
  }

  function take(text) {
    config = text.trim() ? text : null;
    if (config) worker.postMessage({ file: { name: "config.json", text: config } });
    state.model = config ? "config.json" : "llama-3.1-8b";
    own.open = Boolean(config);
    draw();
    write();
  }

  function ask() {
    const text = typed.value.trim();
    const hash = new URLSearchParams({ q: text });
    if (config && text.includes("config.json")) hash.set("config", config.replace(/\s+/g, " "));
    history.replaceState(history.state, "", `#${hash}`);
    latest = text;
    report.classList.add("try-old");
    worker.postMessage({ id: ++asked, line: text });
    const mine = asked;
    setTimeout(() => {
      if (mine === asked && place.dataset.ready && report.classList.contains("try-old")) status.textContent = "Working ...";
    }, 700);
  }

  function show(answer, took) {
    report.classList.remove("try-old");
    status.textContent = `Answered in ${Math.max(1, Math.round(took))} ms, here in your browser.`;
    report.dataset.line = latest;
    report.dataset.code = answer.code;
    report.dataset.json = answer.json ?? "";
    const parts = [];
    if (answer.code) parts.push(make("p", { class: "try-error" }, answer.error || `exit code ${answer.code}`));
    if (answer.html) {
      const holder = make("div");
      holder.innerHTML = answer.html;
      parts.push(holder);
    } else if (answer.text) parts.push(make("pre", {}, make("code", {}, answer.text)));
    for (const note of answer.notes ?? []) parts.push(make("p", { class: "try-note" }, `note: ${note}`));
    report.replaceChildren(...parts);
    // a script that comes as HTML does not run by itself: the one that sorts tables
    for (const old of report.querySelectorAll("script")) old.replaceWith(make("script", {}, old.textContent));
  }

  worker.onmessage = ({ data }) => {
    if (data.failed) status.textContent = `Python could not be loaded: ${data.failed}`;
    else if (data.ready) {
      place.dataset.ready = Math.round(data.ready);
      status.textContent = `Python loaded in ${(data.ready / 1000).toFixed(1)} s.`;
    } else if (data.id === asked) {
      show(data.answer, data.took);
      if (!place.dataset.warm) {
        place.dataset.warm = "yes";
        setTimeout(() => worker.postMessage({ warm: 0 }), 500);
      }
    } else if (data.more) {
      // a step at a time: a question asked meanwhile waits for one of them at most
      setTimeout(() => worker.postMessage({ warm: data.warmed + 1 }), 20);
    } else if ("warmed" in data) place.dataset.warm = "all";
  };

  typed.onkeydown = (e) => {
    if (e.key !== "Enter") return;
    follow(typed.value);
    ask();
  };
  own.ondragover = place.ondragover = (e) => e.preventDefault();
  place.ondrop = async (e) => {
    e.preventDefault();
    const file = e.dataTransfer.files[0];
    if (file) { paste.value = await file.text(); take(paste.value); }
  };

  const given = new URLSearchParams(location.hash.slice(1));
  if (given.get("config")) {
    config = given.get("config");
    paste.value = config;
    own.open = true;
    worker.postMessage({ file: { name: "config.json", text: config } });
  }
  const text = given.get("q");
  for (const [option, f] of Object.entries(QUESTIONS.run.fields)) state[option] = f.value ?? "";
  draw();
  if (text) follow(text);
  if (text) {
    typed.value = text;
    ask();
  } else write();
}

document$.subscribe(() => {
  const place = document.getElementById("try");
  if (place && !place.dataset.started) {
    place.dataset.started = "yes";
    start(place).catch((error) => { place.textContent = `The page could not start: ${error}`; });
  }
});
