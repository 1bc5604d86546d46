// Resizing as Pillow does it (Resample.c), so that an image comes out with the same bytes.

const BITS = 22; // of a weight's fraction, where Pillow computes with whole numbers

const box = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
const bicubic = {
  support: 2,
  weight(x) {
    const [a, d] = [-0.5, Math.abs(x)];
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
  },
};

// Shrink a grey image of bytes by the mean of what falls into each pixel; images are { data, width, height }.
export function shrunk(image, width, height) {
  const whole = (weight) => Math.trunc(weight * 2 ** BITS + (weight < 0 ? -0.5 : 0.5));
  const byte = (sum) => Math.min(Math.max(Math.floor((sum + 2 ** (BITS - 1)) / 2 ** BITS), 0), 255);
  return resized(image, width, height, box, whole, byte);
}

// Resize a grey image of floats by cubic interpolation.
export function fitted(image, width, height) {
  return resized(image, width, height, bicubic, (weight) => weight, Math.fround);
}

function resized(image, width, height, filter, store, round) {
  const { data } = image;
  let [columns, rows, values] = [image.width, image.height, data];
  if (width !== columns) {
    const out = new Float32Array(width * rows);
    weights(columns, width, filter).forEach(({ first, taps }, x) => {
      const stored = taps.map(store);
      for (let y = 0; y < rows; y++) {
        let sum = 0;
        stored.forEach((weight, at) => (sum += values[y * columns + first + at] * weight));
        out[y * width + x] = round(sum);
      }
    });
    [values, columns] = [out, width];
  }
  if (height !== rows) {
    const out = new Float32Array(columns * height);
    weights(rows, height, filter).forEach(({ first, taps }, y) => {
      const stored = taps.map(store);
      for (let x = 0; x < columns; x++) {
        let sum = 0;
        stored.forEach((weight, at) => (sum += values[(first + at) * columns + x] * weight));
        out[y * columns + x] = round(sum);
      }
    });
    [values, rows] = [out, height];
  }
  return { data: Float32Array.from(values), width: columns, height: rows };
}

function weights(length, wanted, { support, weight }) {
  const scale = length / wanted;
  const spread = Math.max(scale, 1);
  return Array.from({ length: wanted }, (_, at) => {
    const centre = (at + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support * spread + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support * spread + 0.5), length);
    const taps = [];
    for (let x = first; x < end; x++) taps.push(weight((x - centre + 0.5) * (1 / spread)));
    const total = taps.reduce((sum, each) => sum + each, 0);
    return { first, taps: taps.map((each) => (total ? each / total : each)) };
  });
}
