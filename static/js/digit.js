// Pictures of digits as the models know them: 28 × 28 grey levels 0..255, white on black, the
// digit inside 20 × 20 with its centre of mass in the middle, as MNIST was made.

export const SIDE = 28;
const INNER = 20;
const MIDDLE = (SIDE - 1) / 2;
const INK = 24;

/** Grey levels of a canvas, row by row. */
export function greyOf(canvas) {
  const { width, height } = canvas;
  const data = canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, width, height).data;
  const grey = new Float32Array(width * height);
  for (let i = 0; i < grey.length; i += 1) {
    grey[i] = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
  }
  return grey;
}

function boxOf(grey, width, height) {
  let left = width;
  let right = -1;
  let top = height;
  let bottom = -1;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (grey[y * width + x] > INK) {
        left = Math.min(left, x);
        right = Math.max(right, x);
        top = Math.min(top, y);
        bottom = y;
      }
    }
  }
  return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

/** Mean of the source area behind each target pixel: smooth edges at any scale. */
function shrink(grey, stride, box, width, height) {
  const small = new Float32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const y0 = (y * box.height) / height;
    const y1 = ((y + 1) * box.height) / height;
    for (let x = 0; x < width; x += 1) {
      const x0 = (x * box.width) / width;
      const x1 = ((x + 1) * box.width) / width;
      let sum = 0;
      let area = 0;
      for (let sy = Math.floor(y0); sy < Math.min(Math.ceil(y1), box.height); sy += 1) {
        const high = Math.min(sy + 1, y1) - Math.max(sy, y0);
        for (let sx = Math.floor(x0); sx < Math.min(Math.ceil(x1), box.width); sx += 1) {
          const part = high * (Math.min(sx + 1, x1) - Math.max(sx, x0));
          sum += part * grey[(box.top + sy) * stride + box.left + sx];
          area += part;
        }
      }
      small[y * width + x] = area ? sum / area : 0;
    }
  }
  return small;
}

function middleOf(small, width, height) {
  let mass = 0;
  let atX = 0;
  let atY = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const value = small[y * width + x];
      mass += value;
      atX += value * x;
      atY += value * y;
    }
  }
  return mass ? [atX / mass, atY / mass] : [(width - 1) / 2, (height - 1) / 2];
}

const within = (value, low, high) => Math.min(Math.max(value, low), high);

/** Turn a drawing of any size into 28 × 28 grey levels; an empty one gives zeros. */
export function normalize(grey, width, height) {
  const levels = new Uint8ClampedArray(SIDE * SIDE);
  const box = boxOf(grey, width, height);
  if (!box) return levels;
  // A dot stays small: nothing grows beyond what a sixth of the width would.
  const scale = INNER / Math.max(box.width, box.height, Math.max(width, height) / 6);
  const w = within(Math.round(box.width * scale), 1, INNER);
  const h = within(Math.round(box.height * scale), 1, INNER);
  const small = shrink(grey, width, box, w, h);
  const [middleX, middleY] = middleOf(small, w, h);
  const left = within(Math.round(MIDDLE - middleX), 0, SIDE - w);
  const top = within(Math.round(MIDDLE - middleY), 0, SIDE - h);
  for (let y = 0; y < h; y += 1) {
    for (let x = 0; x < w; x += 1) levels[(top + y) * SIDE + left + x] = Math.round(small[y * w + x]);
  }
  return levels;
}

function edgeOf(grey, width, height) {
  const edge = [];
  for (let x = 0; x < width; x += 1) edge.push(grey[x], grey[(height - 1) * width + x]);
  for (let y = 0; y < height; y += 1) edge.push(grey[y * width], grey[y * width + width - 1]);
  return edge.sort((a, b) => a - b)[Math.floor(edge.length / 2)];
}

/** Make the paper black and the ink white, whatever they were. */
function asChalk(grey, width, height) {
  const paper = edgeOf(grey, width, height);
  const ink = grey.map((value) => (paper > 127 ? paper - value : value - paper));
  const most = ink.reduce((a, b) => Math.max(a, b), 1);
  // The lowest quarter is shadow and grain of the paper.
  return ink.map((value) => within((value / most - 0.25) / 0.75, 0, 1) * 255);
}

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

async function bitmapOf(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

/** Read a PNG or JPEG that already has the model's form, as the API does: scaled, no cropping. */
export async function levelsOfDataUrl(url) {
  const image = await bitmapOf(url);
  const canvas = canvasOf(SIDE, SIDE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SIDE, SIDE);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, SIDE, SIDE);
  const grey = greyOf(canvas);
  const turned = edgeOf(grey, SIDE, SIDE) > 127 ? grey.map((value) => 255 - value) : grey;
  return Uint8ClampedArray.from(turned, Math.round);
}

/** Read a photo or scan of one digit. */
export async function levelsOfFile(file) {
  const url = URL.createObjectURL(file);
  try {
    const image = await bitmapOf(url);
    if (image.naturalWidth === SIDE && image.naturalHeight === SIDE) return await levelsOfDataUrl(url);
    const scale = Math.min(1, 560 / Math.max(image.naturalWidth, image.naturalHeight));
    const canvas = canvasOf(
      Math.max(1, Math.round(image.naturalWidth * scale)),
      Math.max(1, Math.round(image.naturalHeight * scale)),
    );
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const chalk = asChalk(greyOf(canvas), canvas.width, canvas.height);
    return normalize(chalk, canvas.width, canvas.height);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Paint 28 × 28 grey levels onto a canvas of that size. */
export function paint(levels, canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const picture = context.createImageData(SIDE, SIDE);
  for (let i = 0; i < levels.length; i += 1) {
    picture.data.set([levels[i], levels[i], levels[i], 255], 4 * i);
  }
  context.putImageData(picture, 0, 0);
}

/** Write grey levels as a PNG data URL; nothing is lost. */
export function dataUrlOf(levels) {
  const canvas = canvasOf(SIDE, SIDE);
  paint(levels, canvas);
  return canvas.toDataURL("image/png");
}

/** Write grey levels as rows of numbers 0..1. */
export function rowsOf(levels) {
  return Array.from({ length: SIDE }, (_, y) =>
    Array.from(levels.slice(y * SIDE, (y + 1) * SIDE), (level) => Math.round((level / 255) * 1e4) / 1e4),
  );
}

/** Read rows of numbers 0..1; null if they are not 28 × 28. */
export function levelsOfRows(rows) {
  const fits =
    Array.isArray(rows) &&
    rows.length === SIDE &&
    rows.every(
      (row) =>
        Array.isArray(row) &&
        row.length === SIDE &&
        row.every((value) => typeof value === "number" && value >= 0 && value <= 1),
    );
  return fits ? Uint8ClampedArray.from(rows.flat(), (value) => Math.round(value * 255)) : null;
}
