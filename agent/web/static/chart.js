// A small line chart in SVG: values over the last hour at most, one scale.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600; // where the element has no size yet
const HEIGHT = 140;
const SPANS_S = [300, 900, 1800, 3600];
const GAP_S = 60;

/** Seconds that a chart of values at these times shows. */
export function spanOf(times) {
  const length = Math.max(...times) - Math.min(...times);
  return SPANS_S.find((span) => span >= length) ?? SPANS_S.at(-1);
}

/** Draw lines of the last `span` seconds into an svg element. lines: [{name, points: [[seconds, value or null]]}]. */
export function draw(svg, lines, { most, unit, title, span }) {
  const values = lines.flatMap(({ points }) => points.map(([, value]) => value ?? 0));
  const top = nice(Math.max(most, ...values));
  const end = Math.max(0, ...lines.flatMap(({ points }) => points.map(([at]) => at)));
  const width = svg.clientWidth || WIDTH;
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", title);
  const parts = [0, 0.5, 1].map((share) => grid(share, top, unit, width));
  for (const { name, points } of lines) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", `line line-${name}`);
    path.setAttribute("d", trace(points, top, { begin: end - span, span, width }));
    parts.push(path);
  }
  svg.replaceChildren(...parts.flat());
}

function trace(points, top, { begin, span, width }) {
  let before = null;
  const steps = [];
  for (const [at, value] of points) {
    if (value === null || at < begin) continue;
    const x = (width * (at - begin)) / span;
    const y = HEIGHT - (HEIGHT * value) / top;
    steps.push(`${before === null || at - before > GAP_S ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`);
    before = at;
  }
  return steps.join("") || "M0 0";
}

function grid(share, top, unit, width) {
  const y = HEIGHT - HEIGHT * share;
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("class", "grid");
  line.setAttribute("d", `M0 ${y}H${width}`);
  return [line, label(4, share === 1 ? y + 14 : y - 4, `${top * share} ${unit}`)];
}

function label(x, y, text) {
  const words = document.createElementNS(SVG, "text");
  words.setAttribute("x", String(x));
  words.setAttribute("y", String(y));
  words.textContent = text;
  return words;
}

/** The next of 1, 2, 5, 10 and so on. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
