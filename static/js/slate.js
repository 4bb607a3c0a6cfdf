// A slate to draw one digit on with mouse, finger or pen, with undo.
import { greyOf, normalize, paint, SIDE } from "./digit.js";

const CHALK = "#ffffff";
const BOARD = "#000000";
const WIDTH = 44;

export class Slate {
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.deeds = [];
    this.stroke = null;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.end(event));
    }
    this.draw();
  }

  /** Grey levels of what is on the slate; a picture that nobody drew on stays as it is. */
  get levels() {
    const last = this.deeds.at(-1);
    if (last && last.levels) return last.levels;
    return normalize(greyOf(this.canvas), this.canvas.width, this.canvas.height);
  }

  get isEmpty() {
    const last = this.deeds.at(-1);
    return !last || last.kind === "clear";
  }

  get canUndo() {
    return this.deeds.length > 0;
  }

  show(levels) {
    this.deeds.push({ kind: "picture", levels });
    this.changed();
  }

  clear() {
    if (!this.isEmpty) this.deeds.push({ kind: "clear" });
    this.changed();
  }

  undo() {
    this.deeds.pop();
    this.changed();
  }

  begin(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.stroke = { kind: "stroke", pointer: event.pointerId, points: [this.place(event)] };
    this.deeds.push(this.stroke);
    this.changed();
  }

  move(event) {
    if (!this.stroke || event.pointerId !== this.stroke.pointer) return;
    const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const one of events.length ? events : [event]) this.stroke.points.push(this.place(one));
    this.changed();
  }

  end(event) {
    if (!this.stroke || event.pointerId !== this.stroke.pointer) return;
    this.stroke = null;
    this.changed();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * this.canvas.width) / box.width,
      ((event.clientY - box.top) * this.canvas.height) / box.height,
    ];
  }

  changed() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.draw();
      this.onChange();
    });
  }

  draw() {
    const { context, canvas } = this;
    context.fillStyle = BOARD;
    context.fillRect(0, 0, canvas.width, canvas.height);
    const from = this.deeds.findLastIndex((deed) => deed.kind !== "stroke");
    if (from >= 0 && this.deeds[from].levels) this.drawPicture(this.deeds[from].levels);
    context.strokeStyle = CHALK;
    context.lineWidth = WIDTH;
    context.lineCap = "round";
    context.lineJoin = "round";
    for (const deed of this.deeds.slice(from + 1)) this.drawStroke(deed.points);
  }

  drawPicture(levels) {
    const small = document.createElement("canvas");
    small.width = SIDE;
    small.height = SIDE;
    paint(levels, small);
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
  }

  drawStroke(points) {
    const { context } = this;
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i < points.length - 1; i += 1) {
      const [x, y] = points[i];
      const [nextX, nextY] = points[i + 1];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    // A line without length would leave no dot.
    const [lastX, lastY] = points.at(-1);
    context.lineTo(lastX + 0.1, lastY);
    context.stroke();
  }
}
