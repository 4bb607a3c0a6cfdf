// A slate to draw one digit on with mouse, finger or pen, with undo.
import { greyOf, normalize, paint, SIDE } from "./digit.js";

const CHALK = "#ffffff";
const BOARD = "#000000";
const WIDTH = 48;
// The models learned strokes about 3.4 pixels wide in 20; a small digit is not drawn with a
// thinner pen than a large one, so the width follows the size of the digit.
const SHARE = 3.4 / (20 - 3.4);
const SMALLEST = 140;
const MARGIN = 120;

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
    const strokes = this.deeds.slice(this.base + 1);
    const ground = this.deeds[this.base];
    const canvas = ground && ground.levels ? this.canvas : this.traced(strokes);
    return normalize(greyOf(canvas), canvas.width, canvas.height);
  }

  /** Where the last picture or clearing is; the strokes after it are what one sees. */
  get base() {
    return this.deeds.findLastIndex((deed) => deed.kind !== "stroke");
  }

  /** The strokes with a pen that suits the size of the digit. */
  traced(strokes) {
    const points = strokes.flatMap((stroke) => stroke.points);
    const span = [0, 1].map((axis) => {
      const places = points.map((point) => point[axis]);
      return Math.max(...places) - Math.min(...places);
    });
    const canvas = document.createElement("canvas");
    canvas.width = this.canvas.width + 2 * MARGIN;
    canvas.height = this.canvas.height + 2 * MARGIN;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.translate(MARGIN, MARGIN);
    drawStrokes(context, strokes, Math.max(...span, SMALLEST) * SHARE);
    return canvas;
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
    const ground = this.deeds[this.base];
    if (ground && ground.levels) this.drawPicture(ground.levels);
    drawStrokes(context, this.deeds.slice(this.base + 1), WIDTH);
  }

  drawPicture(levels) {
    const small = document.createElement("canvas");
    small.width = SIDE;
    small.height = SIDE;
    paint(levels, small);
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
  }
}

function drawStrokes(context, strokes, width) {
  context.strokeStyle = CHALK;
  context.lineWidth = width;
  context.lineCap = "round";
  context.lineJoin = "round";
  for (const { points } of strokes) {
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
