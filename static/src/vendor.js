// Copies the browser scripts we ship from node_modules; run by `npm run build`.
import { copyFileSync, mkdirSync } from "node:fs";

const files = {
  "htmx.org/dist/htmx.min.js": "htmx/htmx.min.js",
  "uplot/dist/uPlot.iife.min.js": "uplot/uPlot.iife.min.js",
  "uplot/dist/uPlot.min.css": "uplot/uPlot.min.css",
};

for (const [from, to] of Object.entries(files)) {
  const target = `static/vendor/${to}`;
  mkdirSync(target.slice(0, target.lastIndexOf("/")), { recursive: true });
  copyFileSync(`node_modules/${from}`, target);
}
