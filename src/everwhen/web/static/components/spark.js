// A value over time, in a line; what is no number is told by steps.
import { html } from "../dom.js";
import { brief, count } from "../text.js";

const WIDTH = 600;
const HEIGHT = 72;

export function Spark({ positions, values, at, onPoint, low = positions[0], high = positions.at(-1) }) {
  const numbers = values.map((value) => (typeof value === "number" ? value : typeof value === "boolean" ? Number(value) : null));
  const known = numbers.filter((one) => one !== null);
  const span = Math.max(1, high - low);
  const x = (position) => ((position - low) / span) * (WIDTH - 12) + 6;
  if (known.length < 2)
    return html`<svg class="spark" viewBox=${`0 0 ${WIDTH} 20`} role="img" aria-label=${`${values.length} values`}>${positions.map((position) => html`<line class="write" x1=${x(position)} x2=${x(position)} y1="4" y2="16" />`)}
      <line class="at" x1=${x(at)} x2=${x(at)} y1="0" y2="20" /></svg>`;
  const least = Math.min(...known);
  const most = Math.max(...known);
  const y = (value) => HEIGHT - 8 - ((value - least) / (most - least || 1)) * (HEIGHT - 16);
  let line = "";
  numbers.forEach((value, index) => {
    if (value === null) return;
    line += line ? `H${x(positions[index]).toFixed(1)}V${y(value).toFixed(1)}` : `M${x(positions[index]).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  line += `H${x(high).toFixed(1)}`;
  const click = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    onPoint?.(Math.round(low + (((event.clientX - box.left) / box.width) * WIDTH - 6) / (WIDTH - 12) * span));
  };
  return html`<figure class="sparkline"><svg class="spark" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" onClick=${click}
      aria-label=${`From ${brief(values[0])} to ${brief(values.at(-1))}, between ${count(least)} and ${count(most)}`}>
      <path d=${line} vector-effect="non-scaling-stroke" /><line class="at" x1=${x(at)} x2=${x(at)} y1="0" y2=${HEIGHT} vector-effect="non-scaling-stroke" /></svg>
    <figcaption><span>${count(least)}</span><span>${count(most)}</span></figcaption></figure>`;
}
