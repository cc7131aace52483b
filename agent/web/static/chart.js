// A small line chart in SVG: values over the last hour, one scale.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 600; // where the element has no size yet
const HEIGHT = 140;
const SPAN_S = 3600;
const GAP_S = 60;

/** Draw lines into an svg element. lines: [{name, points: [[seconds, value or null]]}]. */
export function draw(svg, lines, { most, unit, title }) {
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
    path.setAttribute("d", trace(points, top, end, width));
    parts.push(path);
  }
  svg.replaceChildren(...parts.flat());
}

function trace(points, top, end, width) {
  let before = null;
  const steps = [];
  for (const [at, value] of points) {
    if (value === null || at < end - SPAN_S) continue;
    const x = (width * (at - (end - SPAN_S))) / SPAN_S;
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
  const words = document.createElementNS(SVG, "text");
  words.setAttribute("x", "4");
  words.setAttribute("y", String(share === 1 ? y + 14 : y - 4));
  words.textContent = `${top * share} ${unit}`;
  return [line, words];
}

/** The next of 1, 2, 5, 10 and so on. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
