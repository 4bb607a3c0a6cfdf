// A part of a page that changes: server-sent events ring, the page fetches what changed; without
// them it asks every three seconds. When what it shows has ended, the whole page is loaded anew.

const EVERY_MS = 3000;
const REST_MS = 400;

class Live {
  constructor(box) {
    this.box = box;
    this.busy = false;
    this.again = false;
    this.source = new EventSource(box.dataset.events);
    for (const name of ["state", "status", "changed", "end"]) {
      this.source.addEventListener(name, () => this.refresh());
    }
    this.source.onopen = () => clearInterval(this.timer);
    this.source.onerror = () => this.poll();
  }

  poll() {
    clearInterval(this.timer);
    this.timer = setInterval(() => this.refresh(), EVERY_MS);
  }

  async refresh() {
    if (this.busy) {
      this.again = true;
      return;
    }
    this.busy = true;
    this.again = false;
    try {
      const answer = await fetch(this.box.dataset.live, { headers: { Accept: "text/html" } });
      if (answer.ok) this.show(await answer.text());
    } catch {
      // The site is restarting: the next event or the next round asks again.
    }
    setTimeout(() => {
      this.busy = false;
      if (this.again) this.refresh();
    }, REST_MS);
  }

  show(html) {
    const part = new DOMParser().parseFromString(html, "text/html");
    if (part.querySelector("[data-ended]")) {
      this.source.close();
      clearInterval(this.timer);
      location.reload();
      return;
    }
    this.box.replaceChildren(...part.body.childNodes);
  }
}

for (const box of document.querySelectorAll("[data-live]")) new Live(box);
