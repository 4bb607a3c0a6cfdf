// Shows what a run answered, what it cost, or why it was refused.

const NANOS = 9;
const SYMBOLS = { usd: "$", eur: "€", cny: "¥" };

/** Put values into a sentence such as "Succeeded in {ms} ms". */
export function fill(sentence, values) {
  return sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Write a decimal amount as the pages do: at least two decimals, otherwise exact. */
export function money(amount, currency = "usd") {
  const [whole, fraction = ""] = amount.split(".");
  return `${SYMBOLS[currency] || ""}${whole}.${fraction.padEnd(2, "0")}`;
}

function nanosOf(amount) {
  const [whole, fraction = ""] = amount.split(".");
  return BigInt(whole + fraction.padEnd(NANOS, "0"));
}

function amountOf(nanos) {
  const digits = (nanos < 0n ? -nanos : nanos).toString().padStart(NANOS + 1, "0");
  const fraction = digits.slice(-NANOS).replace(/0+$/, "");
  return `${nanos < 0n ? "−" : ""}${digits.slice(0, -NANOS)}.${fraction || "0"}`;
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function percent(share) {
  const value = share * 100;
  return `${value.toFixed(value > 0 && value < 0.1 ? 2 : 1)} %`;
}

function bars(spec, values, words) {
  const winner = values.indexOf(Math.max(...values));
  const list = element("ol", { class: "bars" });
  values.forEach((value, place) => {
    const fillBar = element("span", {});
    fillBar.style.width = `${Math.max(value * 100, 0.4)}%`;
    const label = element("span", { class: "num" }, spec.labels[place]);
    const text = element("span", { class: "num share" }, percent(value));
    const item = element("li", {}, label, element("span", { class: "track", "aria-hidden": "true" }, fillBar), text);
    if (place === winner) {
      item.classList.add("winner");
      item.append(element("span", { class: "sr-only" }, `(${words.likeliest})`));
    }
    list.append(item);
  });
  const top = element("p", { class: "answer" });
  top.append(
    element("span", { class: "answer-value num" }, spec.labels[winner]),
    element("span", { class: "text-small text-soft num" }, percent(values[winner])),
  );
  return [top, list];
}

/** Show the outputs: classes as bars, numbers large, everything else as JSON. */
export function showOutput(place, answer, outputs, words) {
  const parts = [];
  for (const spec of outputs) {
    const value = answer.output[spec.name];
    const flat = Array.isArray(value) ? value.flat(Infinity) : [value];
    if (spec.labels && flat.length === spec.labels.length) {
      parts.push(...bars(spec, flat, words));
    } else if (flat.length === 1) {
      const shown = Number(flat[0].toPrecision(7));
      const line = element("p", { class: "answer" });
      line.append(
        element("span", { class: "text-soft mono" }, `${spec.name} =`),
        element("span", { class: "answer-value num" }, String(shown)),
      );
      parts.push(line);
    } else {
      const text = element("pre", { tabindex: "0" }, JSON.stringify(value, null, 1));
      parts.push(element("div", { class: "code" }, text));
    }
  }
  place.replaceChildren(...parts);
}

function line(list, name, value) {
  const shown = element("dd", {});
  shown.append(value);
  list.append(element("dt", {}, name), shown);
}

function takeFromBalance(amount) {
  const chip = document.querySelector("[data-balance]");
  if (!chip) return null;
  const left = BigInt(chip.dataset.balance) - nanosOf(amount);
  chip.dataset.balance = left.toString();
  const text = amountOf(left);
  const [whole, fraction = ""] = text.split(".");
  chip.textContent = `$${whole}.${fraction.padEnd(2, "0").slice(0, 2)}`;
  return text;
}

/** Show the receipt of a run: units, price, time, balance. */
export function showReceipt(place, answer, form, words) {
  const { cost, metrics } = answer;
  const list = element("dl", { class: "facts" });
  const total = money(cost.amount, cost.currency);
  for (const [, count] of Object.entries(cost.units)) {
    line(list, fill(words.rows, { count, price: form.dataset.price }), total);
  }
  line(list, words.charged, element("b", { class: "font-semibold" }, total));
  const times = { queue: metrics.queue_ms.toFixed(1), run: metrics.run_ms.toFixed(1), batch: metrics.batch_rows };
  line(list, fill(words.times, times), fill(words.priceVersion, { version: cost.price_version }));
  const left = takeFromBalance(cost.amount);
  if (left !== null) line(list, words.balance, money(left, cost.currency));
  const nobody = "00000000-0000-0000-0000-000000000000";
  const href = form.dataset.receiptUrl.replace(nobody, cost.hold);
  const id = element("a", { class: "link mono", href, title: cost.hold }, `${cost.hold.slice(0, 8)}…${cost.hold.slice(-4)}`);
  line(list, words.receipt, id);
  place.replaceChildren(list);
  place.hidden = false;
}

const INPUT_CODES = /^(invalid_|unknown_|missing_|non_finite|out_of_range|too_many_rows|payload_too_large)/;
const AGAIN_CODES = /^(overloaded|worker_lost|model_starting|prediction_timeout|platform_error|queue_full|deadline_exceeded|hold_expired)$/;

function advice(code, words) {
  if (code === "insufficient_credit") return words.doCredit;
  if (code === "cap_reached") return words.doCap;
  if (code === "model_error") return words.doModel;
  if (code === "not_signed_in") return words.doSignIn;
  if (code === "no_answer") return words.doOffline;
  if (INPUT_CODES.test(code)) return words.doInput;
  return AGAIN_CODES.test(code) ? words.doAgain : words.doReport;
}

/** Show why a run was refused: what to do, the code, the request id. */
export function showError(place, error, form, words) {
  const body = element("div", { class: "grid gap-1.5" }, element("strong", { class: "font-semibold" }, advice(error.code, words)));
  if (error.message) body.append(element("p", { lang: "en" }, error.message));
  if (error.code === "not_signed_in") {
    body.append(element("p", {}, element("a", { class: "link", href: form.dataset.signIn }, words.signIn)));
  }
  if (error.code === "insufficient_credit" || error.code === "cap_reached") {
    body.append(element("p", {}, element("a", { class: "link", href: form.dataset.balanceUrl }, words.seeBalance)));
  }
  const small = element("p", { class: "text-small text-soft" }, element("code", {}, error.code));
  if (error.request_id) small.append(` · ${words.request} `, element("code", { class: "break-all" }, error.request_id));
  body.append(small);
  place.replaceChildren(element("div", { class: "note note-bad", role: "alert" }, body));
}
