// Live figures: the part of the page that changes is fetched every ten seconds while somebody looks,
// and its chart drawn again. The table under the chart says the same without JavaScript.

const EVERY_MS = 10_000;
const HEIGHT = 230;

// The operators' console names its colours otherwise.
const OTHERWISE = { "--color-primary": "--color-primary-600", "--faint": "--color-base-500", "--color-base-300": "--color-base-300" };

function colour(name) {
  const style = getComputedStyle(document.documentElement);
  return style.getPropertyValue(name).trim() || style.getPropertyValue(OTHERWISE[name]).trim();
}

function milliseconds(value) {
  if (value == null) return "–";
  return value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

function moment(seconds) {
  return new Date(seconds * 1000).toISOString().slice(11, 16);
}

function points(box) {
  const found = document.getElementById(box.dataset.liveChart);
  return found ? JSON.parse(found.textContent) : [];
}

function line(label, dash) {
  return { label, stroke: colour("--color-primary"), dash, width: 2, scale: "ms", points: { size: 5 }, spanGaps: false };
}

function options(box, rows) {
  const step = rows.length > 1 ? rows[1][0] - rows[0][0] : 60;
  const axis = { stroke: colour("--faint"), ticks: { show: false } };
  return {
    width: box.clientWidth,
    height: HEIGHT,
    padding: [12, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { setScale: false }, points: { size: 6 } },
    scales: {
      x: { time: true, range: (_, low, high) => [low - step / 2, high + step / 2] },
      ms: { range: (_, low, high) => [0, (high || 1) * 1.1] },
      // The bars stay in the lower third, under the lines.
      calls: { range: (_, low, high) => [0, (high || 1) * 3] },
    },
    axes: [
      { ...axis, size: 28, space: 60, grid: { show: false }, values: (_, ticks) => ticks.map(moment) },
      { ...axis, scale: "ms", size: 64, grid: { stroke: colour("--color-base-300"), width: 1 }, values: (_, ticks) => ticks.map(milliseconds) },
    ],
    series: [
      {},
      {
        label: "calls",
        scale: "calls",
        fill: colour("--color-base-300"),
        width: 0,
        points: { show: false },
        paths: uPlot.paths.bars({ size: [0.7, 40, 1] }),
      },
      line("p50"),
      line("p95", [5, 4]),
    ],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    hooks: { setCursor: [(chart) => read(chart, box, rows)] },
  };
}

function read(chart, box, rows) {
  const note = box.nextElementSibling;
  if (!note?.matches("[data-chart-note]")) return;
  const row = rows[chart.cursor.idx ?? -1];
  if (!row) {
    note.textContent = note.dataset.idle;
    return;
  }
  const [at, p50, p95, calls, failed] = row;
  const parts = [moment(at), `p50 ${milliseconds(p50)}`, `p95 ${milliseconds(p95)}`, `${note.dataset.calls} ${calls}`];
  if (failed) parts.push(`${failed} ${note.dataset.failed}`);
  note.textContent = parts.join(" · ");
}

const charts = new Map();
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) charts.get(target)?.setSize({ width: target.clientWidth, height: HEIGHT });
});

function draw(root) {
  for (const box of root.querySelectorAll("[data-live-chart]")) {
    const rows = points(box);
    const column = (place) => rows.map((row) => row[place]);
    box.replaceChildren();
    charts.set(box, new uPlot(options(box, rows), [column(0), column(3), column(1), column(2)], box));
    sizes.observe(box);
  }
}

function forget() {
  for (const [box, chart] of charts) {
    sizes.unobserve(box);
    chart.destroy();
  }
  charts.clear();
}

/** Whether somebody reads the chart or the table right now: then it must not change under them. */
function isRead(place) {
  return place.contains(document.activeElement) || place.querySelector(".chart:hover") !== null;
}

async function refresh(place) {
  if (document.hidden || isRead(place)) return;
  let text;
  try {
    const answer = await fetch(place.dataset.live, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    text = await answer.text();
  } catch {
    // The site is restarting: the next round asks again.
    return;
  }
  const open = [...place.querySelectorAll("details")].map((each) => each.open);
  forget();
  place.innerHTML = text;
  place.querySelectorAll("details").forEach((each, number) => (each.open = open[number] ?? false));
  draw(document);
}

draw(document);
document.addEventListener("themechange", () => {
  forget();
  draw(document);
});
for (const place of document.querySelectorAll("[data-live]")) setInterval(() => refresh(place), EVERY_MS);
