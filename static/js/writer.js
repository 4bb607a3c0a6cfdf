// The Playground of models that write: the text appears while it is written, Stop hangs up.
import { Later } from "./later.js";
import { fill, showError } from "./receipt.js";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const find = (id) => document.getElementById(id);
const setup = read("playground-setup");
const words = read("playground-words");
const form = find("playground");
const prompt = find("prompt");
const KEPT = `playground:${form.dataset.run}`;

let isChat = false;
let hangUp = null;

/** The events of an answer, one object each, until [DONE]. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      // A comment: the model is being loaded.
      if (!part.startsWith("data: ")) continue;
      const data = part.slice("data: ".length);
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function body() {
  return JSON.stringify({
    prompt: prompt.value,
    is_chat: isChat,
    max_tokens: Number(find("max-tokens").value),
    temperature: Number(find("temperature").value),
    version: setup.version,
  });
}

/** The same as the input of a prediction that runs later: a chat is a paragraph, and the next one. */
function input() {
  const options = {
    prompt: isChat ? `${prompt.value}\n` : prompt.value,
    max_tokens: Number(find("max-tokens").value),
    temperature: Number(find("temperature").value),
  };
  return isChat ? { ...options, stop: "\n" } : options;
}

/** A place for the text: what was given, faint, and what is written after it. */
function page(before = isChat ? `${prompt.value}\n` : prompt.value) {
  const text = document.createElement("p");
  text.className = "whitespace-pre-wrap break-words leading-relaxed";
  const given = document.createElement("span");
  given.className = "text-faint";
  given.textContent = before;
  const written = document.createElement("span");
  text.append(given, written);
  find("output").replaceChildren(text);
  return written;
}

function showCost(event) {
  const line = find("written");
  const { amount, hold, units } = event.cost;
  line.hidden = false;
  line.textContent = `${fill(words.tokens, { input: units.input_token, output: units.output_token })} · $${amount} · `;
  const link = document.createElement("a");
  link.className = "link";
  link.href = form.dataset.receiptUrl.replace("00000000-0000-0000-0000-000000000000", hold);
  link.textContent = words.receipt;
  line.append(link);
}

async function failureOf(response) {
  try {
    const { error } = await response.json();
    return response.status === 401 ? { ...error, code: "not_signed_in" } : error;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return { code: `http_${response.status}`, message: "" };
  }
}

function post(address, body, extra) {
  const headers = {
    "Content-Type": "application/json",
    "X-CSRFToken": form.elements.csrfmiddlewaretoken.value,
  };
  return fetch(address, { method: "POST", body, ...extra, headers: { ...headers, ...extra.headers } });
}

async function write(signal) {
  const response = await post(form.dataset.run, body(), { signal });
  if (!response.ok) return failureOf(response);
  const written = page();
  for await (const event of eventsOf(response)) {
    if (event.error) return event.error;
    written.append(event.choices[0]?.text ?? "");
    if (event.cost) showCost(event);
  }
  return null;
}

async function order(signal) {
  const body = JSON.stringify({ input: input(), version: setup.version });
  const response = await post(form.dataset.later, body, { signal, headers: { Prefer: "respond-async" } });
  if (!response.ok) return failureOf(response);
  later.follow(await response.json());
  return null;
}

async function outcome(signal, isLater) {
  try {
    return await (isLater ? order(signal) : write(signal));
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") return { stopped: true };
    if (!(error instanceof TypeError)) throw error;
    return { code: "no_answer", message: "" };
  }
}

function setRunning(isRunning) {
  find("run").disabled = isRunning;
  find("stop").hidden = !isRunning || find("run-later").checked;
}

function say(text, isGood = false) {
  find("run-state").classList.toggle("text-good", isGood);
  find("run-state").textContent = text;
}

function showFailure(failure) {
  say(words.failed);
  showError(find("output"), failure, form, words);
}

/** Show a text that was written in the background. */
function showText(prediction, ms) {
  if (prediction.error) {
    showFailure(prediction.error);
    return;
  }
  say(fill(words.succeeded, { ms: ms.toFixed(0) }), true);
  page(prediction.input.prompt).append(prediction.output[setup.outputs[0].name]);
  showCost(prediction);
}

const later = new Later(form, words, say, showText);

async function run() {
  if (form.dataset.signedIn !== "yes") {
    window.location.assign(form.dataset.signIn);
    return;
  }
  if (hangUp) return;
  const isLater = find("run-later").checked;
  hangUp = new AbortController();
  later.leave();
  setRunning(true);
  find("written").hidden = true;
  say(isLater ? words.sending : words.running);
  const start = performance.now();
  const failure = await outcome(hangUp.signal, isLater);
  const ms = (performance.now() - start).toFixed(0);
  hangUp = null;
  setRunning(false);
  if (failure?.stopped) say(words.stopped);
  else if (failure) showFailure(failure);
  else if (!isLater) say(fill(words.succeeded, { ms }), true);
}

function setChat(value) {
  isChat = value;
  for (const button of form.querySelectorAll("[data-chat]")) {
    button.setAttribute("aria-pressed", String((button.dataset.chat === "yes") === isChat));
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
form.addEventListener("click", (event) => {
  const button = event.target.closest("[data-chat], [data-example]");
  if (button?.dataset.chat) setChat(button.dataset.chat === "yes");
  else if (button) prompt.value = setup.examples[Number(button.dataset.example)].input.prompt;
});
find("stop").addEventListener("click", () => hangUp?.abort());
prompt.addEventListener("input", () => sessionStorage.setItem(KEPT, prompt.value));
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
});
for (const key of document.querySelectorAll("[data-shortcut]")) {
  if (/Mac|iPhone|iPad/.test(navigator.platform)) key.textContent = "⌘ ↵";
}
// What was typed before signing in is still there afterwards.
prompt.value = sessionStorage.getItem(KEPT) ?? setup.examples[0]?.input.prompt ?? "";
