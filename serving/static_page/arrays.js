// What NumPy and SciPy do for the server's reader, on arrays of width × height in one dimension.

export const f32 = Math.fround; // where NumPy computes with 32 bits

// Round halves to the even neighbour, as Python and NumPy do.
export function round(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

// Replace each row of `values`, then each column, by what `change` makes of it.
function separably(values, width, height, change) {
  const out = values.slice();
  for (const [count, length, step, next] of [[width, height, width, 1], [height, width, 1, width]]) {
    const line = new values.constructor(length);
    for (let each = 0; each < count; each++) {
      for (let at = 0; at < length; at++) line[at] = out[each * next + at * step];
      for (let at = 0; at < length; at++) out[each * next + at * step] = change(line, at);
    }
  }
  return out;
}

// The largest value within `size` pixels, or by `sign` -1 the least; an even size reaches further right and down.
export function extremum(values, width, height, size, sign = 1) {
  const before = Math.floor((size - 1) / 2);
  return separably(values, width, height, (line, at) => {
    let best = line[at];
    const end = Math.min(at - before + size, line.length);
    for (let near = Math.max(at - before, 0); near < end; near++) {
      if (sign * line[near] > sign * best) best = line[near];
    }
    return best;
  });
}

export function gaussian(values, width, height, sigma) {
  const radius = Math.trunc(4 * sigma + 0.5);
  const bell = Array.from({ length: 2 * radius + 1 }, (_, at) => Math.exp((-0.5 / sigma ** 2) * (at - radius) ** 2));
  const total = bell.reduce((sum, each) => sum + each, 0);
  const weights = bell.slice(radius).map((each) => each / total); // from the middle on: it is symmetric
  return separably(values, width, height, (line, at) => {
    const reflected = (place) => {
      const within = ((place % (2 * line.length)) + 2 * line.length) % (2 * line.length);
      return line[within < line.length ? within : 2 * line.length - 1 - within];
    };
    let sum = line[at] * weights[0];
    for (let far = radius; far > 0; far--) sum += (reflected(at - far) + reflected(at + far)) * weights[far];
    return sum;
  });
}

// Number the connected parts of `mask`, corners included, in the order of their first pixels.
export function label(mask, width, height) {
  const labels = new Int32Array(mask.length);
  let count = 0;
  mask.forEach((set, first) => {
    if (!set || labels[first]) return;
    labels[first] = ++count;
    for (const pending = [first]; pending.length; ) {
      const place = pending.pop();
      const [x, y] = [place % width, Math.floor(place / width)];
      for (let row = Math.max(y - 1, 0); row <= Math.min(y + 1, height - 1); row++) {
        for (let column = Math.max(x - 1, 0); column <= Math.min(x + 1, width - 1); column++) {
          const near = row * width + column;
          if (mask[near] && !labels[near]) {
            labels[near] = count;
            pending.push(near);
          }
        }
      }
    }
  });
  return { labels, count };
}

export const mean = (values) => f32(values.reduce((sum, each) => sum + each, 0) / values.length);

export function median(values) {
  const sorted = Float32Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : f32(f32(sorted[middle - 1] + sorted[middle]) / 2);
}

// The value that a share of `values` is below, interpolated.
export function percentile(values, share) {
  const sorted = Float32Array.from(values).sort();
  const place = f32((sorted.length - 1) * f32(share));
  const [low, part] = [Math.floor(place), place - Math.floor(place)];
  const [from, to] = [sorted[low], sorted[Math.min(low + 1, sorted.length - 1)]];
  return f32(part < 0.5 ? from + f32(to - from) * part : to - f32(to - from) * (1 - part));
}

// Otsu's threshold of values from 0 to 1 (segmentation.py).
export function otsu(values) {
  const levels = new Float64Array(128);
  for (const value of values) levels[Math.trunc(Math.min(Math.max(f32(value * 127), 0), 127))]++;
  let [mass, below] = [0, 0];
  const sums = Array.from(levels, (count, level) => [(mass += count * level), (below += count)]);
  let [best, at] = [-1, 0];
  sums.forEach(([massBelow, countBelow], level) => {
    const difference = mass * countBelow - massBelow * below;
    const between = (difference * difference) / Math.max(countBelow * (below - countBelow), 1);
    if (between > best) [best, at] = [between, level];
  });
  return (at + 1) / 127;
}
