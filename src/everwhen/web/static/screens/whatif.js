// What if? The state as it would be without some events, or with others, beside the one that is.
import { html, useLayoutEffect, useMemo, useState } from "../dom.js";
import { post, urlOf } from "../api.js";
import { lacks } from "../components/allowed.js";
import { useEventWindow } from "../components/event_window.js";
import { Filters, filtersOf } from "../components/filters.js";
import { Icon } from "../components/icons.js";
import { Dialog } from "../components/overlays.js";
import { Empty, Loading, ProblemBox } from "../components/parts.js";
import { useCarriedOut, usePosted } from "../components/plans.js";
import { StatePair } from "../components/state_pair.js";
import { SubjectChooser, subjectOf } from "../components/subject.js";
import { EditEvent, WhatIfList } from "../components/what_if_list.js";
import { offer } from "../keys.js";
import { head, here, toast } from "../store.js";
import { count, plural, shown } from "../text.js";
import { branch, go, param } from "../url.js";

const MOST = 500; // events left out: the address has to hold them

const parsed = (text) => {
  try {
    return Object.entries(JSON.parse(text ?? "{}")).map(([position, found]) => [Number(position), found]).filter(([position]) => position > 0);
  } catch {
    return []; // an address that somebody has shortened
  }
};
const isEvent = (one) => typeof one?.type === "string" && one.data !== null && typeof one.data === "object";

/** What the address says is different: a set of positions left out, other events by position, and lists of events after one. */
function alterationOf() {
  const without = new Set((param("without").value ?? "").split(",").map(Number).filter((position) => position > 0));
  const edits = new Map(parsed(param("edits").value).filter(([, edit]) => isEvent(edit)));
  const inserts = new Map(parsed(param("inserts").value).filter(([, found]) => Array.isArray(found) && found.length && found.every(isEvent)));
  return { without, edits, inserts };
}

const jsonOf = (map) => (map.size ? JSON.stringify(Object.fromEntries(map)) : null);

function suppose({ without, edits, inserts }) {
  if (without.size > MOST) {
    toast(`At most ${MOST} events can be left out here`, "The address has to hold all of them.");
    return;
  }
  go({ without: [...without].sort((a, b) => a - b).join(","), edits: jsonOf(edits), inserts: jsonOf(inserts) }, { replace: true });
}
const AS_IT_WAS = { without: new Set(), edits: new Map(), inserts: new Map() };

const lacking = (map, position) => new Map([...map].filter(([one]) => one !== position));

/** The alteration with the list of events after a position, or without any there. */
const withInserts = (alteration, position, found) => ({ ...alteration, inserts: found.length ? new Map(alteration.inserts).set(position, found) : lacking(alteration.inserts, position) });

function Chips({ alteration }) {
  const { without, edits, inserts } = alteration;
  const asItWas = (position) => suppose({ ...alteration, without: new Set([...without].filter((one) => one !== position)), edits: lacking(edits, position) });
  const all = [
    ...[...without].map((position) => [position, "−", "without", () => asItWas(position), `Leave ${position} as it was`]),
    ...[...edits.keys()].map((position) => [position, "~", "edited", () => asItWas(position), `Leave ${position} as it was`]),
    ...[...inserts].map(([position, found]) => [position, "+", `${found.length > 1 ? `${found.length} ` : ""}after`, () => suppose(withInserts(alteration, position, [])), `Insert nothing after ${position}`]),
  ].sort((a, b) => a[0] - b[0]);
  return html`<div class="chips" aria-label="What is different" role="group">${all.slice(0, 12).map(([position, sign, word, drop, label]) => html`<span class="chip" key=${sign + position}><small>${sign} ${word}</small>
      <button class="bare-link" onClick=${() => go({ event: position }, { replace: true })}>${count(position)}</button><button class="plain" aria-label=${label} onClick=${drop}><${Icon} name="close" size=${11} /></button></span>`)}
    ${all.length > 12 && html`<span class="dim">and ${plural(all.length - 12, "other")}</span>`}
    <button class="quiet" onClick=${() => suppose(AS_IT_WAS)}>As it was</button></div>`;
}

function Keep({ asked, onClose }) {
  const [name, setName] = useState("");
  const { run, working, failed } = useCarriedOut(async () => {
    const made = await post("/what-ifs", { ...asked, keep_as: name.trim() });
    toast(`It is kept as branch ${made.branch}`, "", "done");
    onClose();
    go({ screen: "branches", pick: made.branch, with: branch.value, view: "events", without: null, edits: null, inserts: null, event: null });
  });
  return html`<${Dialog} label="Keep as a branch" class="asks" onClose=${onClose}><form onSubmit=${(event) => (event.preventDefault(), run())}>
    <h2>Keep as a branch</h2>
    <p>A new branch forks off <bdi><b>${shown(branch.value)}</b></bdi> before the first difference, and goes on as supposed up to position ${count(Number(asked.at))}. <bdi>${shown(branch.value)}</bdi> stays as it is.</p>
    <label class="field large"><span class="sr">Its name</span><input autofocus value=${name} onInput=${(e) => setName(e.target.value)} placeholder="Its name, such as no-big-win" autocomplete="off" spellcheck="false" maxlength="120" /></label>
    ${failed && html`<${ProblemBox} problem=${failed} />`}
    <p class="buttons"><button type="button" class="quiet" onClick=${onClose}>Cancel</button><button class="act" disabled=${working || !name.trim()}>Make the branch</button></p>
  </form><//>`;
}

function Supposed({ subject, asked, onKeep }) {
  const { data, problem, loading, again } = usePosted(asked && urlOf("/what-ifs"), asked, { after: 150, stays: true });
  const cut = useMemo(() => new Map((data?.cut ?? []).map((one) => [one.path, one.entries])), [data]);
  if (!asked) return html`<${Empty}><h2>What if it had been otherwise?</h2><p>Tick events off, edit the data of one, or insert another one after it. The state that would have come of it stands here, beside the one that is.</p><p class="dim">Nothing is written, unless you keep it as a branch.</p><//>`;
  if (problem) return html`<${ProblemBox} problem=${problem} again=${again} />`;
  if (!data) return html`<${Loading}>Supposing…<//>`;
  const reason = lacks("operate");
  const note = `at ${count(data.position)}`;
  return html`<div class=${`supposed ${loading ? "stale" : ""}`} aria-busy=${loading}>
    <${StatePair} name=${subject.fold + (subject.of.stream ?? "")} changes=${data.changes} more=${data.more_changes} cut=${cut} none="It makes no difference to this state."
      before=${{ value: data.real, label: "State as it is", title: "as it is", note }} after=${{ value: data.altered, label: "State as it would be", title: "as it would be", note }}>
      <span class="space"></span><button class="quiet" disabled=${Boolean(reason)} aria-describedby=${reason ? "keep-why" : undefined} onClick=${onKeep}><${Icon} name="branches" size=${13} />Keep as branch</button><//>
    ${reason && html`<p id="keep-why" class="why-not dim">It can't be kept as a branch. ${reason}</p>`}</div>`;
}

export function Screen() {
  const subject = subjectOf();
  const at = here.value;
  const alteration = alterationOf();
  const { without, edits, inserts } = alteration;
  const wanted = Number(param("event").value);
  const cursor = at === null ? null : Math.min(wanted > 0 ? wanted : at, head.value.position);
  const found = useEventWindow(filtersOf(), cursor);
  const [editing, setEditing] = useState(null); // {event}, or {event, index} of what is inserted after it
  const [keeping, setKeeping] = useState(false);
  const chosen = found.events[found.index];
  const choose = (position) => go({ event: position }, { replace: true });
  const tick = ({ position }) => {
    const next = new Set(without);
    if (!next.delete(position)) next.add(position);
    suppose({ ...alteration, without: next, edits: lacking(edits, position) });
  };
  const insertsAfter = ({ position }) => inserts.get(position) ?? [];
  const edited = (given) => {
    const { event, index } = editing;
    const { position } = event;
    if (index === undefined) suppose({ ...alteration, without: new Set([...without].filter((one) => one !== position)), edits: given ? new Map(edits).set(position, given) : lacking(edits, position) });
    else suppose(withInserts(alteration, position, insertsAfter(event).toSpliced(index, 1, ...(given ? [given] : []))));
    setEditing(null);
  };
  const insert = (event) => setEditing({ event, index: insertsAfter(event).length });
  const stepped = (by) => () => {
    const { events, index } = found;
    const to = events[Math.max(0, index + by)] ?? events.at(-1);
    if (to) choose(to.position);
  };
  const listed = () => found.events.filter((event) => event.position <= (at ?? 0));
  const isDifferent = without.size + edits.size + inserts.size > 0;
  const asked = isDifferent && at !== null ? { fold: subject.fold, ...Object.fromEntries(Object.entries(subject.of).filter(([, value]) => value)), at: String(at),
    without: { positions: [...without].sort((a, b) => a - b) }, edited: Object.fromEntries([...edits].map(([position, edit]) => [position, [edit]])), inserted: Object.fromEntries(inserts) } : null;
  const keep = () => {
    const reason = lacks("operate");
    if (reason) toast("It can't be kept as a branch", reason);
    else if (asked) setKeeping(true);
  };
  useLayoutEffect(() => offer(
    { keys: ["j", "ArrowDown"], title: "Next event", group: "What if", run: stepped(1) },
    { keys: ["k", "ArrowUp"], title: "Previous event", group: "What if", run: stepped(-1) },
    { keys: ["PageDown"], title: "20 events on", group: "What if", run: stepped(20) },
    { keys: ["PageUp"], title: "20 events back", group: "What if", run: stepped(-20) },
    { keys: ["x"], title: "Leave the event out, or not", group: "What if", run: () => chosen && tick(chosen) },
    { keys: ["e"], title: "Edit the event's data", group: "What if", run: () => chosen && setEditing({ event: chosen }) },
    { keys: ["i"], title: "Insert an event after it", group: "What if", run: () => chosen && insert(chosen) },
    { keys: ["a"], title: "Leave out all that are listed", group: "What if", run: () => suppose({ ...alteration, without: new Set([...without, ...listed().map((event) => event.position)]) }) },
    { keys: ["z"], title: "All as it was", group: "What if", run: () => suppose(AS_IT_WAS) },
    { keys: ["b"], title: "Keep as a branch", group: "What if", run: keep },
    { keys: ["s"], title: "Choose a stream", group: "What if", run: () => document.getElementById("stream")?.focus() },
  ));
  return html`<div class="panes even">
    <section class="pane" aria-label="Events">
      <${Filters} />
      ${isDifferent && html`<div class="different"><${Chips} alteration=${alteration} /></div>`}
      <${WhatIfList} found=${found} without=${without} edits=${edits} inserts=${inserts} onTick=${tick} onEdit=${(event, index) => setEditing({ event, index })} onInsert=${insert} onChoose=${choose} />
    </section>
    <section class="pane side" aria-label="The state"><${SubjectChooser} subject=${subject} /><${Supposed} subject=${subject} asked=${asked} onKeep=${keep} /></section></div>
    ${editing && html`<${EditEvent} event=${editing.event} edit=${editing.index === undefined ? edits.get(editing.event.position) : insertsAfter(editing.event)[editing.index]} isInserted=${editing.index !== undefined} onDone=${edited} onClose=${() => setEditing(null)} />`}
    ${keeping && asked && html`<${Keep} asked=${asked} onClose=${() => setKeeping(false)} />`}`;
}
