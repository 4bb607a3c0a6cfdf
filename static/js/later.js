// A run in the background: told about until it has ended, canceled if the person wants that.
import { Events } from "./follow.js";
import { element, fill, money } from "./receipt.js";

const NOBODY = "00000000-0000-0000-0000-000000000000";
const find = (id) => document.getElementById(id);

export class Later {
  /** `say` shows a state in a few words, `showAnswer` what a run that is over has given. */
  constructor(form, words, say, showAnswer) {
    Object.assign(this, { form, words, say, showAnswer });
    find("later-cancel").addEventListener("click", () => this.cancel());
  }

  /** Follow a prediction that was accepted, as the API tells of it. */
  follow(prediction) {
    this.address = this.form.dataset.predictionUrl.replace(NOBODY, prediction.id);
    find("later-link").href = this.address;
    find("later-cancel").hidden = false;
    find("later-cancel").disabled = false;
    find("later").hidden = false;
    this.tell(prediction.status);
    this.events = new Events(`${this.address}/events`, ["state", "status", "end"], {
      hear: (event) => this.hear(event.type, JSON.parse(event.data)),
      lose: () => this.say(this.words.lost),
      find: () => this.tell(this.status),
    });
  }

  /** Follow it no longer; it goes on by itself. */
  leave() {
    this.events?.stop();
    find("later").hidden = true;
  }

  hear(kind, prediction) {
    if (kind !== "end") {
      this.tell(prediction.status);
      return;
    }
    this.events.stop();
    find("later-cancel").hidden = true;
    this.end(prediction);
  }

  tell(status) {
    this.status = status;
    const { queued, loading, processing, canceling } = this.words;
    const text = { queued, starting: loading, processing }[status];
    if (!text) return;
    this.say(find("later-cancel").disabled ? canceling : text);
    find("output").replaceChildren(this.steps(status));
  }

  /** The way of a prediction: where it is, and what comes. */
  steps(status) {
    const { stepQueued, stepRuns, stepResult } = this.words;
    const at = status === "queued" ? 0 : 1;
    const list = element("ol", { class: "flex flex-wrap items-center gap-2 text-small" });
    [stepQueued, stepRuns, stepResult].forEach((name, place) => {
      const dot = element("span", { class: place > at ? "dot dot-ring" : "dot", "aria-hidden": "true" });
      const step = element("li", { class: place <= at ? "tag tag-good" : "tag" }, dot, name);
      if (place === at) step.setAttribute("aria-current", "step");
      list.append(step);
    });
    return list;
  }

  end(prediction) {
    const ms = new Date(prediction.completed_at) - new Date(prediction.created_at);
    if (prediction.status === "canceled") this.showCanceled(prediction.cost);
    else this.showAnswer(prediction, ms);
    if (prediction.status === "failed") this.say(this.words.endedFailed);
  }

  showCanceled(cost) {
    const { endedCanceled, canceledFree, canceledCharged } = this.words;
    this.say(endedCanceled);
    const amount = money(cost.amount, cost.currency);
    const text = Number(cost.amount) ? fill(canceledCharged, { amount }) : canceledFree;
    find("output").replaceChildren(element("div", { class: "note note-warn", role: "alert" }, text));
  }

  async cancel() {
    const button = find("later-cancel");
    button.disabled = true;
    this.say(this.words.canceling);
    const headers = { "X-CSRFToken": this.form.elements.csrfmiddlewaretoken.value };
    try {
      // The answer is the way to the prediction's page; what came of it is an event.
      const answer = await fetch(`${this.address}/cancel`, { method: "POST", headers, redirect: "manual" });
      if (answer.type === "opaqueredirect") return;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
    button.disabled = false;
    this.say(this.words.notCanceled);
  }
}
