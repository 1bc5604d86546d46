// Lines that are no ink of the writer's, as mnist_pipeline/data/pictures/lines.py takes them out; it says why.

import { round } from "./arrays.js";

const THICKEST = 0.025; // of the picture's longer side, up to twice the shorter one
const TILT = Array.from({ length: 31 }, (_, at) => (at === 30 ? 0.27 : -0.27 + at * (0.54 / 30))); // slopes
const ACROSS = 0.75; // of the picture's width
const LONG = 0.4;
const SEVERAL = 3;
const FAINT = 0.25;

export function withoutLines(mask, width, height) {
  let found = mask;
  for (const [columns, rows] of [[width, height], [height, width]]) {
    const lines = levelLines(found, columns, rows);
    found = transposed(lines ? found.map((set, at) => set & !lines[at]) : found, columns, rows);
  }
  return found;
}

function transposed(mask, width, height) {
  return Uint8Array.from(mask, (_, at) => mask[(at % height) * width + Math.floor(at / height)]);
}

function levelLines(mask, width, height) {
  const inked = new Uint8Array(width);
  mask.forEach((set, at) => (inked[at % width] |= set));
  if (inked.reduce((sum, each) => sum + each, 0) < LONG * width) return null;
  const thickest = 2 * round((THICKEST * Math.min(Math.max(width, height), 2 * Math.min(width, height))) / 2) + 1;
  const thin = thinRuns(mask, width, height, thickest);
  const reach = Math.trunc((0.27 * width) / 2) + 2;
  const bins = height + 2 * reach;
  const votes = TILT.map(() => new Float64Array(bins));
  thin.forEach((set, at) => {
    if (!set || (at >= width && thin[at - width])) return; // the upper pixel of each run votes
    const [x, y] = [at % width, Math.floor(at / width)];
    TILT.forEach((slope, row) => votes[row][round(y - slope * (x - width / 2)) + reach]++);
  });
  const sums = votes.map((row) =>
    row.map((count, at) => (at && at < bins - 1 ? row[at - 1] + count + row[at + 1] : count)),
  );
  const lines = chosen(sums, bins, width, thickest);
  const onLine = new Uint8Array(mask.length);
  for (const [slope, middle] of lines) {
    for (let x = 0; x < width; x++) {
      const y = round(slope * (x - width / 2) + middle - reach);
      if (y >= 0 && y < height) onLine[y * width + x] = 1;
    }
  }
  const half = thickest >> 1;
  return thin.map((set, at) => {
    if (!set) return 0;
    const [x, y] = [at % width, Math.floor(at / width)];
    for (let row = Math.max(y - half, 0); row <= Math.min(y + half, height - 1); row++) {
      if (onLine[row * width + x]) return 1;
    }
    return 0;
  });
}

// The slope and the middle of each line that has votes enough.
function chosen(votes, bins, width, thickest) {
  const peaks = [];
  for (let at = 0; at < bins; at++) if (votes.some((row) => row[at] >= LONG * width)) peaks.push(at);
  const several = 1 + peaks.filter((at, number) => number && at - peaks[number - 1] > thickest).length >= SEVERAL;
  const slopes = votes.map((row) => row.some((count) => count >= LONG * width));
  const least = several ? FAINT : ACROSS;
  const lines = [];
  votes.forEach((row, number) => {
    if (several && !(slopes[number - 1] || slopes[number] || slopes[number + 1])) return;
    row.forEach((count, at) => count >= least * width && lines.push([TILT[number], at]));
  });
  return lines;
}

// The runs of each column that are shorter than `length`.
function thinRuns(mask, width, height, length) {
  const thin = new Uint8Array(mask.length);
  for (let x = 0; x < width; x++) {
    for (let start = 0, y = 0; y <= height; y++) {
      if (y < height && mask[y * width + x]) continue;
      for (let each = start; each < y && y - start < length; each++) thin[each * width + x] = 1;
      start = y + 1;
    }
  }
  return thin;
}
