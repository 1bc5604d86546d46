// The digit in a picture, found as mnist_pipeline/data/pictures/segmentation.py finds it; it says why, and where from.

import { extremum, f32, gaussian, label, mean, median, otsu, percentile, round } from "./arrays.js";
import { withoutLines } from "./lines.js";

const SMOOTHING = 0.004;
const WIDEST = 1 / 3;
const GAP = 0.012;
const SMALLEST = 0.06;
const LIKE_LINES = 1.2;
const PATCH = 0.04;
const PATCHES = 0.5;
const DARKER = 1.6;
const FAINTEST = 0.09;
const DARKEST = 40;
const NOISE_LEVEL = 12;
const [NOISE, FULL] = [0.15, 0.85];
const CANDIDATES = 10;
const OFF_CENTRE = 0.4;
const AT_EDGE = 0.2;
const INSIDE = 0.3;
const HOLLOW = 0.12;
const [SOLID, SQUARE] = [0.55, 0.5];
const UNLIKELY = 0.2;
const FRAGMENT = 0.15;
const CRUMB = 0.02;
const EQUAL = 0.6;
const THINNEST = 0.08;
const STEEPNESS = 0.22;
const LONGEST = 4.3;
const THICKEST = 0.4;
const OVER_EDGE = 0.1;

// Return the digit alone on black, 0 to 1, in the picture's size, and why it is unclear, if it is.
export function segment({ data, width, height }) {
  const smooth = gaussian(data, width, height, SMOOTHING * Math.min(width, height));
  const dark = ink(data, smooth, width, height);
  const light = ink(data.map((each) => 255 - each), smooth.map((each) => 255 - each), width, height);
  const found = [dark, light].filter(({ marks }) => marks.length && marks[0].score);
  if (!found.length) return { digit: new Float32Array(data.length), warning: "no ink stands out" };
  const best = found.reduce((one, other) => (other.marks[0].score > one.marks[0].score ? other : one));
  const [first, ...others] = wholeMarks(best.marks);
  const equals = others.filter(
    (mark) =>
      mark.extent >= EQUAL * first.extent &&
      mark.contrast >= first.contrast / 2 &&
      !(mark.atEdge || encloses(mark, first)),
  );
  let warning = "";
  if (steepness(best, first) < STEEPNESS) warning = "too faint or too soft for a stroke";
  else if (equals.length) warning = `${equals.length + 1} marks of equal size`;
  else if (first.atEdge > OVER_EDGE * first.extent) warning = "it runs over the edge";
  else warning = doubt(best, first);
  return { digit: alone(best, first), warning };
}

// The marks of a picture, if ink is darker than paper, the likeliest digit first.
function ink(grey, smooth, width, height) {
  const side = Math.min(width, height);
  const size = 2 * round((WIDEST * side) / 2) + 1;
  const background = extremum(extremum(smooth, width, height, size), width, height, size, -1);
  const paper = background.map((each) => Math.max(each, DARKEST));
  const contrast = background.map((each, at) => f32(each - grey[at]) / paper[at]);
  const relative = background.map((each, at) => f32(each - smooth[at]) / paper[at]);
  const threshold = f32(Math.max(otsu(relative), FAINTEST));
  const mask = Uint8Array.from(
    relative, (each, at) => each > threshold && f32(background[at] - smooth[at]) > NOISE_LEVEL,
  );
  const unlined = withoutLines(mask, width, height);
  const lines = mask.map((each, at) => each & !unlined[at]);
  if (lines.some(Boolean)) {
    const faint = f32(f32(LIKE_LINES) * mean(relative.filter((_, at) => lines[at])));
    if (f32(otsu(relative.filter((_, at) => unlined[at]))) > faint) {
      relative.forEach((each, at) => (unlined[at] &= each > faint)); // what was missed of the lines
    }
  }
  withoutPatches(unlined, relative, width, height, 2 * Math.max(round((PATCH * side) / 2), 1) + 1);
  const bridged = extremum(unlined, width, height, 2 * round(GAP * side) + 1);
  const { labels, count } = label(bridged, width, height);
  labels.forEach((_, at) => (labels[at] *= unlined[at]));
  const picture = { side, width, height, smooth, contrast, mask, unlined, labels };
  return { ...picture, marks: rankedMarks(picture, count) };
}

// Take what is far less dark than the rest out of `mask`, if a square of `size` fits into it.
function withoutPatches(mask, relative, width, height, size) {
  for (let shadow = 0; shadow < 2; shadow++) {
    const threshold = f32(otsu(relative.filter((_, at) => mask[at])));
    const faint = mask.map((each, at) => each & (relative[at] <= threshold));
    const strong = mask.map((each, at) => each & !faint[at]);
    const isPatch = extremum(faint, width, height, size, -1).some(Boolean) && mean(faint) < PATCHES;
    if (!isPatch || !strong.some(Boolean)) return;
    const [light, dark] = [faint, strong].map((part) => mean(relative.filter((_, at) => part[at])));
    if (dark < f32(f32(DARKER) * light)) return;
    mask.set(strong);
  }
}

function rankedMarks(picture, count) {
  const boxes = Array.from({ length: count + 1 }, (_, number) => ({
    number, area: 0, top: Infinity, bottom: 0, left: Infinity, right: 0,
  }));
  picture.labels.forEach((number, at) => {
    const [x, y] = [at % picture.width, Math.floor(at / picture.width)];
    const box = boxes[number];
    box.area++;
    [box.top, box.bottom] = [Math.min(box.top, y), Math.max(box.bottom, y + 1)];
    [box.left, box.right] = [Math.min(box.left, x), Math.max(box.right, x + 1)];
  });
  const largest = boxes.slice(1).filter(({ area }) => area);
  largest.sort((one, other) => other.area - one.area || other.number - one.number);
  const marks = largest.slice(0, CANDIDATES).map((box) => mark(picture, box));
  const scored = marks
    .filter(({ contrast }) => contrast > 0)
    .map((each) => (marks.some((other) => encloses(each, other)) ? { ...each, score: UNLIKELY * each.score } : each));
  return scored.sort((one, other) => other.score - one.score);
}

function mark({ side, width, height, smooth, mask, labels }, { number, area, ...box }) {
  const [rows, columns] = [box.bottom - box.top, box.right - box.left];
  const extent = Math.max(rows, columns);
  const paper = [];
  const inside = [];
  let atEdge = 0;
  forEach(widened(box, Math.floor(extent / 2) + 2, width, height), width, (at, x, y) => {
    if (!mask[at]) paper.push(smooth[at]);
    if (labels[at] !== number) return;
    inside.push(smooth[at]);
    atEdge += (y === 0) + (y === height - 1) + (x === 0) + (x === width - 1);
  });
  const contrast = paper.length ? (median(paper) - mean(inside)) / 255 : 0;
  const middle = [(box.top + box.bottom) / 2 / height - 0.5, (box.left + box.right) / 2 / width - 0.5];
  const distance = middle[0] ** 2 + middle[1] ** 2;
  const filled = area / (rows * columns);
  let score = ((contrast * extent) / side) * Math.exp(-distance / OFF_CENTRE ** 2);
  score *= Math.min(filled / HOLLOW, 1) * (atEdge ? AT_EDGE : 1);
  if (filled > SOLID && Math.min(rows, columns) > SQUARE * extent) score *= UNLIKELY;
  const standsOut = extent >= SMALLEST * side && contrast > NOISE_LEVEL / 255;
  return { ...box, extent, labels: [number], area, contrast, score: standsOut ? score : 0, atEdge };
}

function encloses(one, other) {
  const within =
    one.top < other.top && other.bottom < one.bottom && one.left < other.left && other.right < one.right;
  return within && other.extent > INSIDE * one.extent && other.contrast > one.contrast / 2;
}

// Each mark with its fragments.
function wholeMarks(marks) {
  const whole = [];
  for (let rest = marks; rest.length; ) {
    const [first, ...others] = rest;
    const margin = FRAGMENT * first.extent;
    const isNear = ({ top, bottom, left, right }) =>
      first.top - margin <= (top + bottom) / 2 && (top + bottom) / 2 <= first.bottom + margin &&
      first.left - margin <= (left + right) / 2 && (left + right) / 2 <= first.right + margin;
    const near = others.filter(
      (other) =>
        isNear(other) && other.area > CRUMB * first.area && other.extent < first.extent && !other.atEdge,
    );
    rest = others.filter((other) => !near.includes(other));
    whole.push(near.reduce(together, first));
  }
  return whole;
}

function together(one, other) {
  const [top, bottom] = [Math.min(one.top, other.top), Math.max(one.bottom, other.bottom)];
  const [left, right] = [Math.min(one.left, other.left), Math.max(one.right, other.right)];
  const labels = [...one.labels, ...other.labels];
  const [area, atEdge] = [one.area + other.area, one.atEdge + other.atEdge];
  return { ...one, top, bottom, left, right, extent: Math.max(bottom - top, right - left), labels, area, atEdge };
}

// The mark alone on black, with the soft edges of its strokes, thickened if it is thinner than MNIST's.
function alone({ width, height, contrast, mask, unlined, labels }, mark) {
  const window = widened(mark, 2, width, height);
  const [columns, rows] = [window.right - window.left, window.bottom - window.top];
  const cut = { component: [], lines: [], contrast: [] };
  forEach(window, width, (at) => {
    cut.component.push(+mark.labels.includes(labels[at]));
    cut.lines.push(mask[at] & !unlined[at]);
    cut.contrast.push(contrast[at]);
  });
  const component = Uint8Array.from(cut.component);
  const lines = extremum(Uint8Array.from(cut.lines), columns, rows, 3);
  const around = extremum(component, columns, rows, 3);
  const strongest = percentile(cut.contrast.filter((_, at) => component[at]), 0.95);
  let digit = Float32Array.from(cut.contrast, (each, at) => {
    const scaled = f32(f32(f32(each / strongest) - f32(NOISE)) / f32(FULL - NOISE));
    return around[at] && !(lines[at] && !component[at]) ? Math.min(Math.max(scaled, 0), 1) : 0;
  });
  const missing = round(THINNEST * mark.extent - thickness(component, columns, rows));
  if (missing > 0) digit = extremum(digit, columns, rows, missing + 1);
  const picture = new Float32Array(width * height);
  let from = 0;
  forEach(window, width, (at) => (picture[at] = digit[from++]));
  return picture;
}

// How steep the mark's edge is: the median of the contrast's morphological gradient on its outline.
function steepness({ width, height, contrast, labels }, mark) {
  const window = widened(mark, 2, width, height);
  const [columns, rows] = [window.right - window.left, window.bottom - window.top];
  const [component, values] = [[], []];
  forEach(window, width, (at) => {
    component.push(+mark.labels.includes(labels[at]));
    values.push(contrast[at]);
  });
  const [outer, inner] = [1, -1].map((sign) => extremum(Uint8Array.from(component), columns, rows, 3, sign));
  const [most, least] = [1, -1].map((sign) => extremum(Float32Array.from(values), columns, rows, 3, sign));
  return median([...most.keys()].filter((at) => outer[at] && !inner[at]).map((at) => f32(most[at] - least[at])));
}

function doubt({ labels, width }, mark) {
  const component = [];
  forEach(mark, width, (at) => component.push(+mark.labels.includes(labels[at])));
  const thick = thickness(Uint8Array.from(component), mark.right - mark.left, mark.bottom - mark.top);
  const area = component.reduce((sum, each) => sum + each, 0);
  if (area / thick > LONGEST * mark.extent) return "more strokes than a digit has";
  return thick > THICKEST * mark.extent ? "a blot rather than a stroke" : "";
}

function thickness(component, width, height) {
  const eroded = extremum(component, width, height, 3, -1);
  let [area, inner] = [0, 0];
  forEach({ top: 0, bottom: height, left: 0, right: width }, width, (at, x, y) => {
    area += component[at];
    inner += x && y && x < width - 1 && y < height - 1 ? eroded[at] : 0; // beyond the edge is nothing
  });
  return (2 * area) / Math.max(area - inner, 1);
}

function widened({ top, bottom, left, right }, margin, width, height) {
  return {
    top: Math.max(top - margin, 0),
    bottom: Math.min(bottom + margin, height),
    left: Math.max(left - margin, 0),
    right: Math.min(right + margin, width),
  };
}

function forEach({ top, bottom, left, right }, width, visit) {
  for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) visit(y * width + x, x, y);
}
