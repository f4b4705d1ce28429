// Attention drawn as heat over a picture, in the colours of the run report.

// From no attention to the most: dark violet, red, yellow. Brightness alone tells it too.
const HEAT = [[13, 8, 60], [110, 20, 110], [205, 60, 70], [250, 150, 40], [252, 240, 150]];
const VEIL = 0.55; // how much of an overlaid picture is heat
const FLAT = 0.02; // weights that differ by less than this part of the mean count as equal
const LEAST_SCALE = 2; // times the uniform attention: a nearly even map must not look like a peak

// What the scale ends at, in times the uniform attention 1/N.
export function top({ weights }) {
  return Math.max(LEAST_SCALE, Math.max(...weights) * weights.length);
}

export const isEven = ({ weights }) => (Math.max(...weights) - Math.min(...weights)) * weights.length < FLAT;

// One sentence for who cannot see the colours.
export function describe(attention) {
  if (isEven(attention)) return "The encoder looked at every part of the picture alike.";
  const { rows, columns, weights } = attention;
  const most = Math.max(...weights);
  const times = most * weights.length;
  const place = weights.indexOf(most);
  const row = Math.floor(place / columns) + 1;
  return `The encoder looked most at row ${row}, column ${(place % columns) + 1} of ${rows} × ${columns} parts: ` +
    `${times.toFixed(1)} times the mean.`;
}

export function draw(canvas, attention) {
  const { width, height } = canvas;
  const { rows, columns, weights } = attention;
  const scale = weights.length / top(attention);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    const [above, below, down] = between(y, height, rows);
    for (let x = 0; x < width; x++) {
      const [left, right, along] = between(x, width, columns);
      const upper = mix(weights[above * columns + left], weights[above * columns + right], along);
      const lower = mix(weights[below * columns + left], weights[below * columns + right], along);
      image.data.set(colour(scale * mix(upper, lower, down)), 4 * (y * width + x));
    }
  }
  context.putImageData(image, 0, 0);
}

// The two patches whose centres a pixel lies between, and how far it is from the first; clamped at the edges.
// Eased at both ends, since straight slopes would draw a star around every bright patch.
function between(pixel, pixels, patches) {
  const place = Math.min(Math.max(((pixel + 0.5) * patches) / pixels - 0.5, 0), patches - 1);
  const first = Math.floor(place);
  const part = place - first;
  return [first, Math.min(first + 1, patches - 1), part * part * (3 - 2 * part)];
}

function colour(strength) {
  const place = Math.min(Math.max(strength, 0), 1) * (HEAT.length - 1);
  const below = Math.min(Math.floor(place), HEAT.length - 2);
  const channels = HEAT[below].map((value, channel) => mix(value, HEAT[below + 1][channel], place - below));
  return [...channels, 255 * VEIL];
}

const mix = (a, b, part) => a + (b - a) * part;
