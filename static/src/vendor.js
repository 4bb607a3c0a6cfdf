// Copies what other people wrote from node_modules to where we keep it; run by `npm run build`.
import { copyFileSync, mkdirSync } from "node:fs";

const files = {
  "htmx.org/dist/htmx.min.js": "static/vendor/htmx/htmx.min.js",
  "uplot/dist/uPlot.iife.min.js": "static/vendor/uplot/uPlot.iife.min.js",
  "uplot/dist/uPlot.min.css": "static/vendor/uplot/uPlot.min.css",
  // For the browser tests only.
  "axe-core/axe.min.js": "tests/browser/axe.min.js",
};

for (const [from, to] of Object.entries(files)) {
  mkdirSync(to.slice(0, to.lastIndexOf("/")), { recursive: true });
  copyFileSync(`node_modules/${from}`, to);
}
