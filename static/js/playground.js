// The Playground: one input shown as form, JSON and code, always the same; Run and its receipt.
import { dataUrlOf, levelsOfDataUrl, levelsOfFile, levelsOfRows, paint, rowsOf } from "./digit.js";
import { Later } from "./later.js";
import { fill, showError, showOutput, showReceipt } from "./receipt.js";
import { Slate } from "./slate.js";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const find = (id) => document.getElementById(id);
const setup = read("playground-setup");
const words = read("playground-words");
const form = find("playground");
const editor = find("input-json");
const complaint = find("json-error");
const KEPT = `playground:${form.dataset.run}`;

// The input as the API takes it, with images as nested rows.
let input = null;
let slate = null;

/** The input with images as data URLs: short enough for a command line. */
function shortInput() {
  const short = { ...input };
  for (const spec of setup.inputs) {
    const levels = spec.kind === "image" && levelsOfRows(short[spec.name]);
    if (levels) short[spec.name] = dataUrlOf(levels);
  }
  return short;
}

function pretty(value) {
  const parts = Object.entries(value).map(([name, data]) => {
    const isMatrix = Array.isArray(data) && Array.isArray(data[0]);
    const text = isMatrix ? `[\n${data.map((row) => `  ${JSON.stringify(row)}`).join(",\n")}\n]` : JSON.stringify(data);
    return `${JSON.stringify(name)}: ${text}`;
  });
  return `{${parts.join(",\n")}}`;
}

function complain(text) {
  complaint.textContent = text;
  editor.toggleAttribute("aria-invalid", Boolean(text));
}

function showCode() {
  const value = JSON.stringify(input === null ? {} : shortInput());
  const calls = find("run-later").checked ? setup.code_later : setup.code;
  for (const [name, code] of Object.entries(calls)) {
    find(`code-${name}`).textContent = code.replace(JSON.stringify(setup.placeholder), () => value);
  }
}

/** Take a new input from one view and show it in the others. */
function take(next, from) {
  input = next;
  if (from !== "json") {
    editor.value = pretty(next);
    complain("");
  }
  if (from !== "form") showForm();
  showCode();
  if (slate && slate.isEmpty) sessionStorage.removeItem(KEPT);
  else sessionStorage.setItem(KEPT, JSON.stringify(shortInput()));
}

function showForm() {
  if (setup.kind === "image") slate.show(levelsOfRows(input[setup.inputs[0].name]));
  for (const field of form.querySelectorAll("[data-number]")) {
    field.value = [input[field.dataset.number]].flat(Infinity)[0];
  }
}

/** Check a value against its spec; throws a sentence for the reader. */
async function checked(spec, value) {
  if (value === undefined) throw new Error(fill(words.missing, spec));
  if (spec.kind === "image") {
    try {
      const levels = typeof value === "string" ? await levelsOfDataUrl(value) : levelsOfRows(value);
      if (levels) return rowsOf(levels);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
    }
    throw new Error(fill(words.badImage, spec));
  }
  if (spec.kind === "number" && typeof [value].flat(Infinity)[0] !== "number") {
    throw new Error(fill(words.badNumber, spec));
  }
  return value;
}

async function checkedInput(value) {
  const next = { ...value };
  for (const spec of setup.inputs) next[spec.name] = await checked(spec, next[spec.name]);
  return next;
}

async function takeJson() {
  try {
    const value = JSON.parse(editor.value);
    take(await checkedInput(value), "json");
    complain("");
  } catch (error) {
    input = null;
    complain(error instanceof SyntaxError ? fill(words.badJson, { reason: error.message }) : error.message);
  }
}

async function takeExample(place) {
  take(await checkedInput(setup.examples[place].input), "example");
}

function takeNumbers() {
  const next = {};
  for (const field of form.querySelectorAll("[data-number]")) {
    const spec = setup.inputs.find((item) => item.name === field.dataset.number);
    if (field.value === "") return;
    next[spec.name] = spec.shape.length ? [Number(field.value)] : Number(field.value);
  }
  take(next, "form");
}

function takeDrawing() {
  const { levels } = slate;
  paint(levels, find("seen"));
  find("undo").disabled = !slate.canUndo;
  find("clear").disabled = slate.isEmpty;
  find("slate-hint").hidden = !slate.isEmpty;
  take({ [setup.inputs[0].name]: rowsOf(levels) }, "form");
}

async function takeFile(event) {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    slate.show(await levelsOfFile(file));
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    showError(find("output"), { code: "invalid_image", message: words.badFile }, form, words);
  }
}

function show(view) {
  for (const button of form.querySelectorAll("[data-show]")) {
    button.setAttribute("aria-pressed", String(button.dataset.show === view));
  }
  for (const part of form.querySelectorAll("[data-view]")) part.hidden = part.dataset.view !== view;
}

async function answerOf(response) {
  try {
    return await response.json();
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const id = response.headers.get("X-Request-Id");
    return { error: { code: `http_${response.status}`, message: "", request_id: id } };
  }
}

async function ask(isLater) {
  try {
    const response = await fetch(form.dataset.run, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "X-CSRFToken": form.elements.csrfmiddlewaretoken.value,
        ...(isLater ? { Prefer: "respond-async" } : {}),
      },
      body: JSON.stringify({ input, version: setup.version }),
    });
    const body = await answerOf(response);
    if (body.error && response.status === 401) body.error.code = "not_signed_in";
    return body;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return { error: { code: "no_answer", message: "" } };
  }
}

/** Say how long a model that is not loaded yet will take, while a run waits for it. */
async function tellStart() {
  try {
    const answer = await (await fetch(form.dataset.start)).json();
    if (answer.state === "ready" || !find("run").disabled) return;
    const seconds = Math.ceil(answer.ready_in_seconds);
    find("run-state").textContent = fill(words.starting, { seconds });
  } catch (error) {
    // The run itself will say what is wrong.
    if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
  }
}

function say(text, isGood = false) {
  find("run-state").classList.toggle("text-good", isGood);
  find("run-state").textContent = text;
}

function showAnswer(body, ms) {
  if (body.error) {
    say(words.failed);
    showError(find("output"), body.error, form, words);
    return;
  }
  say(fill(words.succeeded, { ms: ms.toFixed(0) }), true);
  showOutput(find("output"), body, setup.outputs, words);
  showReceipt(find("receipt"), body, form, words);
  find("output").scrollIntoView({ block: "nearest" });
}

const later = new Later(form, words, say, showAnswer);

async function run() {
  const button = find("run");
  if (form.dataset.signedIn !== "yes") {
    window.location.assign(form.dataset.signIn);
    return;
  }
  if (button.disabled) return;
  if (input === null || (slate && slate.isEmpty)) {
    showError(find("output"), { code: "invalid_input", message: words.empty }, form, words);
    return;
  }
  const isLater = find("run-later").checked;
  later.leave();
  button.disabled = true;
  say(isLater ? words.sending : words.running);
  const start = performance.now();
  const waiting = isLater ? 0 : setTimeout(tellStart, 700);
  const body = await ask(isLater);
  clearTimeout(waiting);
  button.disabled = false;
  button.focus();
  find("receipt").hidden = true;
  if (isLater && !body.error) later.follow(body);
  else showAnswer(body, performance.now() - start);
}

async function begin() {
  if (setup.kind === "image") {
    slate = new Slate(find("slate"), takeDrawing);
    find("undo").addEventListener("click", () => slate.undo());
    find("clear").addEventListener("click", () => slate.clear());
    find("upload").addEventListener("change", takeFile);
  }
  // What was drawn before signing in is still there afterwards.
  const kept = sessionStorage.getItem(KEPT);
  const first = kept ? JSON.parse(kept) : setup.kind === "image" ? null : setup.examples[0]?.input;
  if (first) take(await checkedInput(first), "example");
  else if (slate) takeDrawing();
  else showCode();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
form.addEventListener("click", (event) => {
  const button = event.target.closest("[data-show], [data-example]");
  if (button?.dataset.show) show(button.dataset.show);
  else if (button) takeExample(Number(button.dataset.example));
});
editor.addEventListener("input", takeJson);
for (const field of form.querySelectorAll("[data-number]")) field.addEventListener("input", takeNumbers);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run();
  }
});
find("run-later").addEventListener("change", showCode);
for (const key of document.querySelectorAll("[data-shortcut]")) {
  if (/Mac|iPhone|iPad/.test(navigator.platform)) key.textContent = "⌘ ↵";
}
begin();
