// A training while it runs: what changed is fetched, and the curve is drawn with uPlot.
import { Part } from "./follow.js";

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function points(root = document) {
  const found = root.querySelector("#curve");
  return found ? JSON.parse(found.textContent) : [];
}

function series(label, stroke, dash, scale = "loss") {
  return { label, stroke, dash, scale, width: 2, points: { show: false }, spanGaps: true };
}

function options(box, hasAccuracy) {
  const axis = { stroke: colour("--faint"), ticks: { show: false } };
  const first = colour("--color-primary");
  const lines = { stroke: colour("--color-base-300"), width: 1 };
  const loss = [series("loss", first), series("val_loss", first, [5, 4])];
  const accuracy = series("val_accuracy", colour("--color-secondary"), undefined, "accuracy");
  const axes = [
    { ...axis, size: 28, grid: { show: false }, incrs: [1, 2, 5, 10, 20, 50, 100] },
    { ...axis, scale: "loss", size: 52, grid: lines },
  ];
  if (hasAccuracy) {
    const percent = (_, ticks) => ticks.map((tick) => `${Math.round(tick * 100)} %`);
    axes.push({ ...axis, scale: "accuracy", side: 1, size: 56, grid: { show: false }, values: percent });
  }
  return {
    width: box.clientWidth,
    height: 230,
    padding: [12, 8, 0, 0],
    legend: { show: false },
    cursor: { drag: { setScale: false }, points: { size: 6 } },
    scales: {
      x: { time: false },
      loss: { range: (_, low, high) => [0, (high || 1) * 1.05] },
      accuracy: { range: [0, 1] },
    },
    axes,
    series: [{}, ...loss, ...(hasAccuracy ? [accuracy] : [])],
  };
}

function columns(rows, hasAccuracy) {
  const names = ["epoch", "loss", "val_loss", ...(hasAccuracy ? ["val_accuracy"] : [])];
  return names.map((name) => rows.map((row) => (row[name] == null ? null : Number(row[name]))));
}

/** The chart of one box; it is made with the first point. */
class Curve {
  constructor(box) {
    this.box = box;
    this.rows = [];
    new ResizeObserver(() => this.chart?.setSize({ width: box.clientWidth, height: 230 })).observe(box);
    document.addEventListener("themechange", () => this.redraw());
  }

  show(rows) {
    if (!rows.length || rows.length === this.rows.length) return;
    this.rows = rows;
    this.box.hidden = false;
    document.querySelector("[data-no-curve]").hidden = true;
    if (this.chart) this.chart.setData(columns(rows, this.hasAccuracy));
    else this.redraw();
  }

  get hasAccuracy() {
    return this.rows.some((row) => row.val_accuracy != null);
  }

  redraw() {
    if (!this.rows.length) return;
    this.chart?.destroy();
    const data = columns(this.rows, this.hasAccuracy);
    this.chart = new uPlot(options(this.box, this.hasAccuracy), data, this.box);
  }
}

const box = document.querySelector("[data-curve]");
if (box) {
  const curve = new Curve(box);
  curve.show(points());
  const live = document.querySelector("[data-live]");
  if (live) new Part(live, () => curve.show(points(live)));
}
