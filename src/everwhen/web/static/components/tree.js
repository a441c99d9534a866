// A value as a tree: rows of one height, of which only those in sight are drawn.
import { html, useEffect, useId, useMemo, useRef, useState } from "../dom.js";
import { brief, count, isErased, isSealed, plural, shown } from "../text.js";
import { childPath, sameForm } from "../paths.js";
import { useSize } from "./parts.js";

const ROW = 22;
const MANY = 200; // parts that are listed at once; the others come by "more"

const isParent = (value) => value !== null && typeof value === "object" && !isSealed(value) && !isErased(value);
const sizeOf = (value) => (Array.isArray(value) ? value.length : Object.keys(value).length);

/** The rows of a value whose open paths are given. `cut` says how many parts the server left out. */
export function rowsOf(value, { isOpen, limits, cut, gone }) {
  const rows = [];
  const walk = (part, path, level) => {
    const entries = Array.isArray(part) ? part.map((one, index) => [index, one]) : Object.entries(part);
    const same = sameForm(path);
    const limit = limits.get(path) ?? MANY;
    const known = new Set();
    for (const [key, child] of entries.slice(0, limit)) {
      const below = childPath(path, key);
      const form = sameForm(below);
      known.add(form);
      const parent = isParent(child) && (sizeOf(child) > 0 || cut.has(form));
      const open = parent && isOpen(below, level);
      rows.push({ path: below, key, value: child, level, parent, open, size: parent ? cut.get(form) ?? sizeOf(child) : 0 });
      if (open) walk(child, below, level + 1);
    }
    for (const change of gone.get(same) ?? [])
      if (!known.has(sameForm(change.path))) rows.push({ path: change.path, key: change.key, value: change.before, level, parent: false, open: false, gone: true });
    const left = entries.length - Math.min(limit, entries.length);
    const beyond = (cut.get(same) ?? entries.length) - entries.length;
    if (left > 0 || beyond > 0) rows.push({ path: path + "\u0000more", of: path, more: left + beyond, isBeyond: left === 0, level });
  };
  if (isParent(value)) walk(value, "", 1);
  return rows;
}

const SIGNS = { added: "+", removed: "−", changed: "~", within: "·" };

export const Value = ({ value, limit = 200 }) => {
  const kind = value === null ? "null" : isSealed(value) ? "sealed" : isErased(value) ? "sealed" : typeof value;
  return html`<bdi class=${`value ${kind}`}>${brief(value, limit)}</bdi>`;
};

function TreeRow({ row, mark, id, chosen, top }) {
  if (row.more)
    return html`<div id=${id} role="treeitem" aria-level=${row.level} aria-selected=${chosen} class="leaf more" style=${{ top: `${top}px`, "--level": row.level }} data-path=${row.path}>
      ${plural(row.more, "more entry", "more entries")}</div>`;
  const kind = row.gone ? "removed" : mark?.kind;
  return html`<div id=${id} role="treeitem" aria-level=${row.level} aria-selected=${chosen} aria-expanded=${row.parent ? row.open : undefined}
    class=${`leaf ${kind ?? ""}`} style=${{ top: `${top}px`, "--level": row.level }} data-path=${row.path}>
    <span class="sign" aria-hidden=${kind ? undefined : "true"}>${kind ? html`<span class="sr">${kind === "within" ? "changed within" : kind}</span>${html`<span aria-hidden="true">${SIGNS[kind]}</span>`}` : ""}</span>
    <span class="twig" aria-hidden="true">${row.parent ? (row.open ? "▾" : "▸") : ""}</span>
    <bdi class="name">${shown(row.key)}</bdi>
    ${kind === "changed" && mark.before !== undefined && html`<span class="before"><${Value} value=${mark.before} limit=${60} /></span><span class="arrow" aria-hidden="true">→</span>`}
    ${row.parent ? html`<span class="size">${row.open ? "" : brief(row.value, 70)}<em>${count(row.size)}</em></span>` : html`<${Value} value=${row.value} />`}
  </div>`;
}

/**
 * The tree. `marks` tells of paths what happened to them: {kind, before}; `cut` how many parts a
 * path has where the server sent only the first ones, which `onMore` fetches. The keys of both,
 * and of `gone`, are in `sameForm`.
 */
export function Tree({ value, label, marks = new Map(), cut = new Map(), gone = new Map(), chosen, onChoose, onMore, openLevels = 1, openPaths }) {
  const [toggled, setToggled] = useState(() => new Map());
  const [limits, setLimits] = useState(() => new Map());
  const [box, size] = useSize();
  const [scrolled, setScrolled] = useState(0);
  const id = useId();
  const isOpen = (path, level) => toggled.get(path) ?? (openPaths?.has(sameForm(path)) || level < openLevels);
  const rows = useMemo(() => rowsOf(value, { isOpen, limits, cut, gone }), [value, toggled, limits, cut, gone, openLevels, openPaths]);
  const wanted = chosen === undefined ? null : sameForm(chosen);
  const at = Math.max(0, rows.findIndex((row) => sameForm(row.path) === wanted));
  const isChosen = rows.length > 0 && sameForm(rows[at].path) === wanted;
  const reveal = (index) => {
    const element = box.current;
    if (!element) return;
    if (index * ROW < element.scrollTop) element.scrollTop = index * ROW;
    else if ((index + 1) * ROW > element.scrollTop + element.clientHeight) element.scrollTop = (index + 1) * ROW - element.clientHeight;
  };
  const revealed = useRef(null);
  useEffect(() => {
    if (isChosen && revealed.current !== chosen && size.height) {
      reveal(at);
      revealed.current = chosen;
    }
  });
  const toggle = (row, open = !row.open) => setToggled(new Map(toggled).set(row.path, open));
  const activate = (row) => {
    if (!row) return;
    if (row.more && row.isBeyond) onMore?.(row.of);
    else if (row.more) setLimits(new Map(limits).set(row.of, (limits.get(row.of) ?? MANY) + MANY));
    else if (row.parent) toggle(row);
  };
  const choose = (index) => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, index))];
    if (!row) return;
    onChoose?.(row.path);
    reveal(rows.indexOf(row));
  };
  const parentOf = (index) => {
    for (let up = index; up >= 0; up--) if (rows[up].level < rows[index].level) return up;
    return index;
  };
  const onKeyDown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = rows[at];
    const moves = { ArrowDown: at + (isChosen ? 1 : 0), ArrowUp: at - 1, Home: 0, End: rows.length - 1, PageDown: at + 20, PageUp: at - 20 };
    if (event.key in moves) choose(moves[event.key]);
    else if (event.key === "ArrowRight" || event.key === "l") row?.parent && !row.open ? toggle(row, true) : choose(at + 1);
    else if (event.key === "ArrowLeft" || event.key === "h") row?.open ? toggle(row, false) : choose(parentOf(at));
    else if (event.key === "Enter" || event.key === " ") activate(row);
    else return;
    event.preventDefault();
  };
  const onClick = (event) => {
    const path = event.target.closest("[data-path]")?.dataset.path;
    const row = rows.find((one) => one.path === path);
    if (!row) return;
    if (row.more || (row.parent && (event.target.closest(".twig") || sameForm(row.path) === wanted || !onChoose))) activate(row);
    if (!row.more) onChoose?.(row.path);
  };
  const first = Math.max(0, Math.floor(scrolled / ROW) - 10);
  const last = Math.min(rows.length, Math.ceil((scrolled + (size.height || 600)) / ROW) + 10);
  const drawn = rows.slice(first, last).map((row, index) => [row, first + index]);
  if (isChosen && (at < first || at >= last)) drawn.push([rows[at], at]);
  return html`<div ref=${box} class="tree" role="tree" tabindex="0" aria-label=${label} aria-activedescendant=${isChosen ? `${id}-${at}` : undefined}
    onKeyDown=${onKeyDown} onClick=${onClick} onScroll=${(event) => setScrolled(event.target.scrollTop)}>
    <div class="leaves" role="presentation" style=${{ height: `${rows.length * ROW}px` }}>
      ${drawn.map(([row, index]) => html`<${TreeRow} key=${row.path} row=${row} mark=${marks.get(sameForm(row.path))} id=${`${id}-${index}`} chosen=${isChosen && index === at} top=${index * ROW} />`)}
    </div></div>`;
}
