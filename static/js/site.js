// Small things on every page: theme, copy buttons, menus that close. Pages work without it.

const THEMES = ["auto", "light", "dark"];

function themeNow() {
  const found = document.cookie.match(/(?:^|; )theme=(light|dark)/);
  return found ? found[1] : "auto";
}

function paintTheme(theme) {
  if (theme === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = theme;
  for (const button of document.querySelectorAll("[data-theme-switch]")) {
    button.hidden = false;
    button.setAttribute("aria-label", button.dataset[theme]);
    button.title = button.dataset[theme];
    for (const icon of button.querySelectorAll("[data-for]")) {
      icon.toggleAttribute("hidden", icon.dataset.for !== theme);
    }
  }
  document.dispatchEvent(new CustomEvent("themechange", { detail: theme }));
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(themeNow()) + 1) % THEMES.length];
  const life = theme === "auto" ? 0 : 31536000;
  document.cookie = `theme=${theme}; path=/; max-age=${life}; samesite=lax`;
  paintTheme(theme);
}

async function writeClipboard(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  // Over plain HTTP from another machine there is no clipboard object.
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("readonly", "");
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  return undefined;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copyFrom);
  await writeClipboard(button.dataset.copy || (source ? source.textContent : ""));
  button.dataset.state = "copied";
  announce(button.dataset.copied);
  setTimeout(() => delete button.dataset.state, 1600);
}

/** Say something to screen readers. */
export function announce(text) {
  let region = document.getElementById("announcer");
  if (!region) {
    region = document.createElement("div");
    region.id = "announcer";
    region.className = "sr-only";
    region.setAttribute("aria-live", "polite");
    document.body.append(region);
  }
  region.textContent = text;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-theme-switch]");
  if (button && "themeSwitch" in button.dataset) nextTheme();
  else if (button) copy(button);
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    const box = document.querySelector("[data-search]");
    if (box) {
      event.preventDefault();
      box.focus();
    }
  }
});

document.addEventListener("change", (event) => {
  if (event.target.closest("[data-submit-on-change]")) event.target.form.requestSubmit();
});

paintTheme(themeNow());
