// Spend per day as bars; the table under the chart says the same without JavaScript.

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function dollars(value) {
  return `$${value.toFixed(9).replace(/0+$/, "").replace(/\.$/, "")}`;
}

function options(box, label) {
  const axis = { stroke: colour("--faint"), grid: { show: false }, ticks: { show: false } };
  return {
    width: box.clientWidth,
    height: 190,
    padding: [12, 8, 0, 0],
    cursor: { y: false, points: { show: false }, drag: { setScale: false } },
    legend: { show: false },
    scales: { x: { time: true, range: (_, low, high) => [low - 43200, high + 43200] }, y: { range: (_, low, high) => [0, high || 1] } },
    axes: [
      { ...axis, size: 28, space: 70, values: (_, ticks) => ticks.map(day) },
      {
        ...axis,
        size: 84,
        grid: { stroke: colour("--color-base-300"), width: 1 },
        values: (_, ticks) => ticks.map(dollars),
      },
    ],
    series: [
      {},
      {
        label,
        fill: colour("--color-primary"),
        width: 0,
        points: { show: false },
        paths: uPlot.paths.bars({ size: [0.62, 46, 2], radius: 0.15 }),
      },
    ],
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    hooks: { setCursor: [(chart) => read(chart, box)] },
  };
}

function day(seconds) {
  return new Date(seconds * 1000).toISOString().slice(5, 10);
}

function read(chart, box) {
  const at = chart.cursor.idx;
  const note = box.nextElementSibling;
  if (!note || !note.matches("[data-chart-note]")) return;
  note.textContent =
    at == null ? note.dataset.idle : `${days(box)[at][0]} · ${dollars(Number(days(box)[at][1]))} · ${days(box)[at][2]}×`;
}

function days(box) {
  return JSON.parse(document.getElementById(box.dataset.usageChart).textContent);
}

function draw(box) {
  const rows = days(box);
  const data = [
    rows.map((row) => Date.parse(`${row[0]}T00:00:00Z`) / 1000),
    rows.map((row) => Number(row[1])),
  ];
  box.replaceChildren();
  return new uPlot(options(box, box.dataset.label), data, box);
}

for (const box of document.querySelectorAll("[data-usage-chart]")) {
  let chart = draw(box);
  new ResizeObserver(() => chart.setSize({ width: box.clientWidth, height: 190 })).observe(box);
  document.addEventListener("themechange", () => {
    chart.destroy();
    chart = draw(box);
  });
}
