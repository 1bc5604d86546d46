// A picture becomes an image of the model's size, as mnist_pipeline/data/pictures/preprocessing.py makes it; it says why.

import { median, round } from "./arrays.js";
import { fitted, shrunk } from "./resample.js";
import { segment } from "./segmentation.js";

const [SIDE, BOX] = [28, 20];
const CENTRE = 14;
const STRONG = 200;
const WORKING_SIZE = 8 * BOX;

// Read an opaque picture, { data: RGBA bytes, width, height }: its pixels, row by row, and why it is unclear, if it is.
export function read(picture, { image_size: [height, width], preprocessing }) {
  const grey = inGrey(picture);
  const { image, warning } = preprocessing === "like-mnist" ? likeMnist(grey) : { image: grey, warning: "" };
  return { pixels: resized(image, width, height), warning };
}

function inGrey({ data, width, height }) {
  const grey = new Float32Array(width * height);
  for (let at = 0; at < grey.length; at++) {
    const [red, green, blue] = [data[4 * at], data[4 * at + 1], data[4 * at + 2]];
    grey[at] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16; // ITU-R 601
  }
  const scale = WORKING_SIZE / Math.max(width, height);
  if (scale >= 1) return { data: grey, width, height };
  const [columns, rows] = [width, height].map((length) => Math.max(1, round(length * scale)));
  return shrunk({ data: grey, width, height }, columns, rows);
}

function likeMnist(grey) {
  for (const light of [grey, { ...grey, data: grey.data.map((each) => 255 - each) }]) {
    if (!median(border(light)) && light.data.some((each) => each > STRONG) && isInPlace(light)) {
      return { image: light, warning: "" };
    }
  }
  const { digit, warning } = segment(grey);
  const found = { ...grey, data: digit };
  const image = isInPlace(found) ? { ...found, data: digit.map((each) => round(each * 255)) } : centred(found);
  return { image, warning };
}

function centred(digit) {
  const image = { data: new Float32Array(SIDE * SIDE), width: SIDE, height: SIDE };
  if (!digit.data.some(Boolean)) return image;
  const cropped = crop(digit);
  const scale = BOX / Math.max(cropped.width, cropped.height);
  const [width, height] = [cropped.width, cropped.height].map((length) => Math.max(round(length * scale), 1));
  const small = fitted(cropped, width, height);
  const positive = small.data.map((each) => Math.max(each, 0));
  const strongest = positive.reduce((one, other) => Math.max(one, other));
  small.data = positive.map((each) => round(Math.fround(Math.fround(each / strongest) * 255)));
  const [y, x] = centreOfMass(small);
  const top = Math.min(Math.max(round(CENTRE - y), 0), SIDE - height);
  const left = Math.min(Math.max(round(CENTRE - x), 0), SIDE - width);
  small.data.forEach((each, at) => {
    image.data[(top + Math.floor(at / width)) * SIDE + left + (at % width)] = each;
  });
  return image;
}

function isInPlace(light) {
  if (light.width !== SIDE || light.height !== SIDE || !light.data.some(Boolean)) return false;
  const { width, height } = crop(light);
  const longer = Math.max(width, height);
  return BOX - 2 <= longer && longer <= BOX && centreOfMass(light).every((each) => Math.abs(each - CENTRE) <= 0.75);
}

function crop({ data, width, height }) {
  let [top, bottom, left, right] = [height, 0, width, 0];
  data.forEach((value, at) => {
    if (!value) return;
    const [x, y] = [at % width, Math.floor(at / width)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
    [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
  });
  const cropped = { data: new Float32Array((right - left) * (bottom - top)), width: right - left, height: bottom - top };
  cropped.data.forEach((_, at) => {
    const row = top + Math.floor(at / cropped.width);
    cropped.data[at] = data[row * width + left + (at % cropped.width)];
  });
  return cropped;
}

function centreOfMass({ data, width }) {
  let [mass, rows, columns] = [0, 0, 0];
  data.forEach((value, at) => {
    mass += value;
    rows += value * Math.floor(at / width);
    columns += value * (at % width);
  });
  return [rows / mass, columns / mass];
}

// Fit a picture into the model's size, keeping its shape, on its background.
function resized(image, width, height) {
  let grey = image.data;
  if (image.width !== width || image.height !== height) {
    const scale = Math.min(height / image.height, width / image.width);
    const [columns, rows] = [image.width, image.height].map((length) => Math.max(round(length * scale), 1));
    const small = fitted(image, columns, rows);
    const [top, left] = [Math.floor((height - rows) / 2), Math.floor((width - columns) / 2)];
    grey = new Float32Array(width * height).fill(median(border(image)));
    small.data.forEach((each, at) => (grey[(top + Math.floor(at / columns)) * width + left + (at % columns)] = each));
  }
  return Uint8Array.from(grey, (each) => round(Math.min(Math.max(each, 0), 255)));
}

function border({ data, width, height }) {
  const rows = [...data.slice(0, width), ...data.slice(-width)];
  for (let y = 0; y < height; y++) rows.push(data[y * width], data[y * width + width - 1]);
  return rows;
}
