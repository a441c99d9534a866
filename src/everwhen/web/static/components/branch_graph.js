// Branches as lanes: where each forks off, how far it goes, and what was merged into what.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { here } from "../store.js";
import { count, plural, shown } from "../text.js";
import { branch, move } from "../url.js";
import { useSize } from "./parts.js";

const ROW = 36;
const EDGE = 14; // room at both ends, for half a mark and a number
const LABEL = 58; // pixels between two numbers of the axis

/** The branches in the order of their lanes: each below its parent, the oldest fork first. */
export function lanesOf(main, branches) {
  const children = Map.groupBy(branches, (one) => one.parent);
  const found = [];
  const add = (one, depth) => {
    found.push({ ...one, depth, row: found.length, hue: (255 + found.length * 137.5) % 360 }); // neighbours differ
    for (const child of (children.get(one.name) ?? []).toSorted((a, b) => a.fork_position - b.fork_position)) add(child, depth + 1);
  };
  add(main, 0);
  return found;
}

/** Positions along a width. What is marked stands apart: long stretches in between take less. */
export class Axis {
  constructor(positions, width) {
    this.marks = [...new Set([0, ...positions])].sort((a, b) => a - b);
    const sizes = this.marks.slice(1).map((mark, index) => Math.log2(2 + mark - this.marks[index]));
    const scale = Math.max(10, width - 2 * EDGE) / (sizes.reduce((sum, size) => sum + size, 0) || 1);
    this.places = [EDGE];
    for (const size of sizes) this.places.push(this.places.at(-1) + size * scale);
  }

  x(position) {
    const { marks, places } = this;
    let after = marks.findIndex((mark) => mark >= position);
    if (after < 0) return places.at(-1);
    if (after === 0 || marks[after] === position) return places[after];
    const share = (position - marks[after - 1]) / (marks[after] - marks[after - 1]);
    return places[after - 1] + share * (places[after] - places[after - 1]);
  }

  position(x) {
    const { marks, places } = this;
    const after = places.findIndex((place) => place >= x);
    if (after < 0) return marks.at(-1);
    if (after === 0) return marks[0];
    const share = (x - places[after - 1]) / (places[after] - places[after - 1] || 1);
    return Math.round(marks[after - 1] + share * (marks[after] - marks[after - 1]));
  }

  /** Those of the marks that have room for a number; the first ones given go before. */
  labels(wanted) {
    const taken = [];
    for (const position of wanted) {
      const x = this.x(position);
      if (!taken.some((one) => Math.abs(one.x - x) < LABEL)) taken.push({ position, x });
    }
    return taken;
  }
}

const y = (row) => row * ROW + ROW / 2;

function Lane({ lane, parent, axis, chosen, other }) {
  const from = axis.x(lane.fork_position ?? 0);
  const to = Math.max(axis.x(lane.head), from + (parent ? 10 : 0));
  const bend = Math.min(14, to - from);
  const line = parent ? `M${from} ${y(parent.row)}V${y(lane.row) - bend}Q${from} ${y(lane.row)} ${from + bend} ${y(lane.row)}H${to}` : `M${from} ${y(lane.row)}H${to}`;
  return html`<g class=${`lane ${parent ? "" : "main"} ${chosen ? "chosen" : ""} ${other ? "other" : ""}`} style=${{ "--hue": lane.hue }}>
    <path d=${line} />${parent && html`<circle class="fork" cx=${from} cy=${y(parent.row)} r="3" />`}
    <circle class="head" cx=${to} cy=${y(lane.row)} r=${chosen ? 5.5 : 4.5} /></g>`;
}

function Merge({ merge, from, into, axis }) {
  const [x1, x2] = [axis.x(merge.up_to), axis.x(merge.position)];
  const [y1, y2] = [y(from.row), y(into.row)];
  const middle = (y1 + y2) / 2;
  return html`<g class="merge" style=${{ "--hue": from.hue }}><title>${`${shown(from.name)} up to ${count(merge.up_to)} was merged into ${shown(into.name)} at ${count(merge.position)}`}</title>
    <path d=${`M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}`} /><rect x=${x2 - 4} y=${y2 - 4} width="8" height="8" transform=${`rotate(45 ${x2} ${y2})`} /></g>`;
}

/** What a branch is, in a few words. */
export const briefOf = (lane) =>
  lane.parent === undefined ? plural(lane.head, "event") : `${lane.head > lane.fork_position ? "+" : ""}${plural(lane.head - lane.fork_position, "event")} from ${count(lane.fork_position)}`;

/** The lanes, to choose one of. `lanes` as of lanesOf. */
export function BranchGraph({ lanes, merges, chosen, other, onChoose, onOpen }) {
  const [box, size] = useSize();
  const [plot, plotSize] = useSize();
  const [scrolled, setScrolled] = useState(0);
  const byName = useMemo(() => new Map(lanes.map((lane) => [lane.name, lane])), [lanes]);
  const known = useMemo(() => merges.flatMap((merge) => {
    const from = lanes.find((lane) => lane.id === merge.id) ?? null;
    const into = byName.get(merge.into);
    return from && into ? [{ merge, from, into }] : [];
  }), [lanes, merges]);
  const at = here.value;
  const axis = useMemo(() => new Axis([...lanes.flatMap((lane) => [lane.fork_position ?? 0, lane.head]), ...known.flatMap(({ merge }) => [merge.up_to, merge.position])], plotSize.width), [lanes, known, plotSize.width]);
  const labels = axis.labels([...(at === null ? [] : [at]), lanes[0].head, 0, ...lanes.slice(1).map((lane) => lane.fork_position)]);
  const index = lanes.findIndex((lane) => lane.name === chosen);
  useEffect(() => {
    const element = box.current;
    if (!element || index < 0) return;
    if (index * ROW < element.scrollTop) element.scrollTop = index * ROW;
    else if ((index + 2) * ROW > element.scrollTop + element.clientHeight) element.scrollTop = (index + 2) * ROW - element.clientHeight;
  }, [index, size.height]);
  const first = Math.max(0, Math.floor(scrolled / ROW) - 6);
  const last = Math.min(lanes.length, Math.ceil((scrolled + (size.height || 400)) / ROW) + 6);
  const inSight = (...rows) => Math.min(...rows) < last && Math.max(...rows) >= first;
  const onKeyDown = (event) => {
    const to = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: lanes.length - 1 }[event.key];
    if (to !== undefined) onChoose(lanes[Math.max(0, Math.min(lanes.length - 1, to))].name);
    else if (event.key === "Enter") onOpen(chosen);
    else return;
    event.preventDefault();
  };
  const onClick = (event) => {
    const lane = lanes[Math.floor((event.clientY - plot.current.getBoundingClientRect().top) / ROW)];
    if (!lane) return;
    onChoose(lane.name);
    const left = event.clientX - plot.current.getBoundingClientRect().left;
    if (left >= 0 && lane.name === branch.value) move(String(Math.min(lane.head, axis.position(left))));
  };
  const current = byName.get(branch.value);
  return html`<section class="graph" aria-label="Branches">
    <div class="axis" aria-hidden="true"><span></span><div>${labels.map(({ position, x }) => html`<span key=${position} class=${position === at ? "on" : ""} style=${{ left: `${x}px` }}>${count(position)}</span>`)}</div></div>
    <div class="graph-rows" ref=${box} role="listbox" tabindex="0" aria-label="Branches" aria-activedescendant=${index < 0 ? undefined : `lane-${index}`}
      onKeyDown=${onKeyDown} onClick=${onClick} onScroll=${(event) => setScrolled(event.target.scrollTop)}>
      <div class="graph-all" role="presentation" style=${{ height: `${lanes.length * ROW}px` }}>
        ${lanes.slice(first, last).map((lane) => html`<div key=${lane.name} id=${`lane-${lane.row}`} role="option" aria-selected=${lane.name === chosen} class="lane-label" style=${{ top: `${lane.row * ROW}px`, "--depth": Math.min(lane.depth, 6), "--hue": lane.hue }}>
          <span class="lane-words"><bdi class="lane-name">${shown(lane.name)}</bdi><small>${briefOf(lane)}${lane.name === branch.value ? " · you are here" : ""}${lane.name === other ? " · compared" : ""}</small></span></div>`)}
        <svg ref=${plot} class="plot" height=${lanes.length * ROW} aria-hidden="true">
          ${plotSize.width > 0 && html`
            ${at !== null && html`<line class="moment" x1=${axis.x(at)} x2=${axis.x(at)} y1="0" y2=${lanes.length * ROW} />`}
            ${lanes.map((lane) => {
              const parent = lane.parent === undefined ? null : byName.get(lane.parent);
              return inSight(lane.row, parent?.row ?? lane.row) && html`<${Lane} key=${lane.name} lane=${lane} parent=${parent} axis=${axis} chosen=${lane.name === chosen} other=${lane.name === other} />`;
            })}
            ${known.map(({ merge, from, into }) => inSight(from.row, into.row) && html`<${Merge} key=${merge.commit_id} merge=${merge} from=${from} into=${into} axis=${axis} />`)}
            ${current && at !== null && html`<circle class="here" cx=${axis.x(at)} cy=${y(current.row)} r="6.5" />`}`}
        </svg></div></div></section>`;
}
