// Following what happens elsewhere: server-sent events, and parts of pages that they keep up to date.

// A look without a ring, while no events come; in vain, the next one is later.
const LOOK_MS = 2000;
const LONGEST_MS = 30_000;
// Between two looks, however often it rings.
const REST_MS = 400;
const RINGS = ["state", "status", "stage", "progress", "epoch", "resumed", "changed", "end"];

/**
 * The events of one address until `stop`. What was missed comes again: the browser returns with
 * Last-Event-ID. A stream that it gives up, because the site refused it, is opened anew.
 */
export class Events {
  /** `hear` gets each event, `lose` is called when the connection breaks, `find` when it is there. */
  constructor(address, names, { hear, lose, find }) {
    Object.assign(this, { address, names, hear, lose, find });
    this.wait = LOOK_MS;
    this.open();
  }

  open() {
    this.source = new EventSource(this.address);
    for (const name of this.names) this.source.addEventListener(name, (event) => this.hear(event));
    this.source.onopen = () => {
      this.wait = LOOK_MS;
      this.find();
    };
    this.source.onerror = (event) => this.fail(event);
  }

  fail(event) {
    // The site's own event `error` says that what happened in between is not kept; `state` follows.
    if (event instanceof MessageEvent) return;
    this.lose();
    if (this.source.readyState !== EventSource.CLOSED) return;
    this.timer = setTimeout(() => this.open(), this.wait);
    this.wait = Math.min(this.wait * 2, LONGEST_MS);
  }

  stop() {
    clearTimeout(this.timer);
    this.source.close();
  }
}

/**
 * A part of a page, of `data-live`, that changes when `data-events` rings. Without events it is
 * looked at every two seconds. When it holds `data-ended`, the whole page is loaded anew: it has
 * other buttons, and results.
 */
export class Part {
  /** `shown` is called whenever the part was replaced. */
  constructor(box, shown = () => {}) {
    Object.assign(this, { box, shown, busy: false, again: false, wait: LOOK_MS });
    this.events = new Events(box.dataset.events, RINGS, {
      hear: () => this.refresh(),
      lose: () => this.poll(),
      find: () => this.rest(),
    });
  }

  poll() {
    if (this.timer) return;
    const look = async () => {
      this.wait = (await this.refresh()) ? LOOK_MS : Math.min(this.wait * 2, LONGEST_MS);
      if (this.timer) this.timer = setTimeout(look, this.wait);
    };
    this.timer = setTimeout(look, this.wait);
  }

  rest() {
    clearTimeout(this.timer);
    this.timer = null;
    this.wait = LOOK_MS;
  }

  /** Look once; two rings at once are one look, and one more. Returns false if it was in vain. */
  async refresh() {
    if (this.busy) {
      this.again = true;
      return true;
    }
    this.busy = true;
    this.again = false;
    const html = await this.read();
    if (html !== null) this.show(html);
    setTimeout(() => {
      this.busy = false;
      if (this.again) this.refresh();
    }, REST_MS);
    return html !== null;
  }

  async read() {
    try {
      const answer = await fetch(this.box.dataset.live, { headers: { Accept: "text/html" } });
      // Who is signed out meanwhile is sent to another page.
      return answer.ok && !answer.redirected ? await answer.text() : null;
    } catch {
      // The site is restarting: the next ring or the next look asks again.
      return null;
    }
  }

  show(html) {
    const part = new DOMParser().parseFromString(html, "text/html");
    if (part.querySelector("[data-ended]")) {
      this.events.stop();
      this.rest();
      location.reload();
      return;
    }
    this.box.replaceChildren(...part.body.childNodes);
    this.shown();
  }
}
