// Pages with a part that changes: predictions, batch files.
import { Part } from "./follow.js";

for (const box of document.querySelectorAll("[data-live]")) new Part(box);
