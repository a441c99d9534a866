// The state at the moment: as a tree, with what changed here; compared; who wrote what; one value over time.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { ask, useAsked } from "../api.js";
import { Changes } from "../components/changes.js";
import { asCommand } from "../components/copies.js";
import { Choice, CopyButton, Empty, Loading, ProblemBox, StreamName, TypeName } from "../components/parts.js";
import { Spark } from "../components/spark.js";
import { grafted, stateUrl, SubjectChooser, subjectOf, useMarks } from "../components/subject.js";
import { Tree, Value } from "../components/tree.js";
import { offer } from "../keys.js";
import { keysOf, sameForm } from "../paths.js";
import { complain, head, here, overview, pin, toast } from "../store.js";
import { count, isErased, isSealed, plural, shown, timeText } from "../text.js";
import { branch, go, move, param } from "../url.js";

const MOST_STEPS = 20; // that wait for the server while a key is held

const EVENT = ({ event }) => html`<button class="step" onClick=${() => move(String(event.position))}>
  <span class="position">${count(event.position)}</span><${TypeName} name=${event.type} /><${StreamName} name=${event.stream} />
  <span class="dim">${event.user_id ? shown(event.user_id) + " · " : ""}${timeText(event.recorded_at)}</span></button>`;

/** The event that made this state, and the steps to its neighbours. */
function Here({ step }) {
  if (!step) return null;
  return html`<div class="around">
    <button class="quiet" disabled=${step.previous === null} onClick=${() => move(String(step.previous))}>◂ previous</button>
    <button class="quiet" disabled=${step.next === null} onClick=${() => move(String(step.next))}>next ▸</button>
    ${step.event ? html`<${EVENT} event=${step.event} />` : html`<span class="dim">before the first event</span>`}</div>`;
}

function Compare({ subject, at, path, onChoose }) {
  const others = (overview.value?.branches ?? []).filter((name) => name !== branch.value);
  const [other, setOther] = useState(null);
  const against = other ?? null;
  const from = pin.value;
  const url = against ? stateUrl(subject, "/diff", { from: at, to: at, other_branch: against }) : from === null ? null : stateUrl(subject, "/diff", { from: Math.min(from, at), to: Math.max(from, at) });
  const { data, problem, loading } = useAsked(url, { keep: !against, after: 60 });
  return html`<div class="block">
    <p class="line">${others.length > 0 && html`<select aria-label="Compare with" onChange=${(event) => setOther(event.target.value || null)}><option value="">the pin</option>${others.map((name) => html`<option value=${name}>branch ${shown(name)}</option>`)}</select>`}
      ${!against && (from === null ? html`<span class="dim">Pin a moment (<kbd>p</kbd>), go to another one, and see here what differs.</span>` : html`<span>from ${count(Math.min(from, at))} to ${count(Math.max(from, at))}</span><button class="quiet" onClick=${() => move(String(from))}>to the pin</button><${CopyButton} what="a command" text=${() => asCommand("diff", { ...subject.of, from: Math.min(from, at), to: Math.max(from, at) })}>as command<//>`)}</p>
    ${problem ? html`<${ProblemBox} problem=${problem} />` : data ? html`<${Changes} changes=${data.changes} more=${data.more_changes} chosen=${path} onChoose=${onChoose} />` : url && loading && html`<${Loading} />`}</div>`;
}

function Blame({ subject, at, path, onChoose }) {
  const { data, problem } = useAsked(stateUrl(subject, "/blame", { at, path, limit: 100 }), { keep: true, after: 80 });
  if (problem) return html`<${ProblemBox} problem=${problem} />`;
  if (!data) return html`<${Loading} />`;
  return html`<div class="block"><p class="line dim">${path ? html`Who wrote <bdi class="path">${shown(path)}</bdi> <${CopyButton} what="a command" text=${() => asCommand("blame", { ...subject.of, path, at })}>as command<//>` : "Who wrote each part"}</p><ul class="blame">
    ${data.entries.map((entry) => html`<li key=${entry.path}><button class=${sameForm(entry.path) === sameForm(path) ? "what on" : "what"} onClick=${() => onChoose(entry.path)}><bdi class="path">${shown(entry.path)}</bdi> <${Value} value=${entry.value} limit=${80} /></button>
      ${entry.event ? html`<${EVENT} event=${entry.event} />` : html`<span class="dim">there from the beginning</span>`}
      ${entry.command && html`<span class="dim why">by the command <bdi>${shown(entry.command.type ?? entry.command)}</bdi></span>`}</li>`)}
  </ul>${data.more > 0 && html`<p class="dim">and ${plural(data.more, "other part")}</p>`}</div>`;
}

/** To the next or the previous change of a part of the state. */
export async function toWrite(subject, path, at, forwards) {
  try {
    const found = await ask(stateUrl(subject, forwards ? "/writes/next" : "/writes/last", forwards ? { path, after: at } : { path, until: Math.max(0, at - 1) }));
    if (found.write) move(String(found.write.position));
    else toast(forwards ? "It doesn't change after this" : "It doesn't change before this", shown(path), "done");
  } catch (error) {
    complain(error);
  }
}

function Watch({ subject, at, path, value }) {
  const watched = param("watch").value ?? path;
  const to = head.value.position;
  const { data, problem } = useAsked(watched ? stateUrl(subject, "/watch", { path: watched, from: 0, to, points: 200 }) : null, { keep: true, after: 60 });
  const near = useAsked(watched ? stateUrl(subject, "/history", { path: watched, from: Math.max(0, at - 5000), to: at, limit: 100 }) : null, { keep: true, after: 150 });
  if (!watched) return html`<${Empty}>Choose a value in the tree, to watch it over time.<//>`;
  return html`<div class="block">
    <p class="line"><bdi class="path">${shown(watched)}</bdi>
      <button class="quiet" onClick=${() => toWrite(subject, watched, at, false)} title="Previous change ([)">◂ change</button>
      <button class="quiet" onClick=${() => toWrite(subject, watched, at, true)} title="Next change (])">change ▸</button>
      ${param("watch").value ? html`<button class="quiet" onClick=${() => go({ watch: null })}>Stop watching</button>` : html`<button class="quiet" onClick=${() => go({ watch: watched })}>Keep watching</button>`}
      <${CopyButton} what="a command" text=${() => asCommand("history", { ...subject.of, path: watched })}>as command<//></p>
    ${problem ? html`<${ProblemBox} problem=${problem} />` : data ? (data.positions.length ? html`<${Spark} ...${data} at=${at} low=${1} high=${to} onPoint=${(position) => move(String(position))} />` : html`<p class="dim">Nothing has written it.</p>`) : html`<${Loading} />`}
    ${near.data?.writes.length > 0 && html`<h2 class="small">Changes until here</h2><ul class="blame">${near.data.writes.slice(-30).reverse().map((write) => html`<li key=${write.position}>
      <span class="values">${write.before !== undefined && html`<span class="old"><${Value} value=${write.before} limit=${60} /></span><span class="arrow" aria-hidden="true"> → </span>`}<span class="new"><${Value} value=${write.after} limit=${60} /></span></span><${EVENT} event=${write.event} /></li>`)}</ul>`}</div>`;
}

/** Steps to the next and the previous change of the state: as many as were asked for, however quickly. */
function useStateSteps(step, at) {
  const left = useRef(0);
  const walk = () => {
    if (!left.current || step.loading || here.value !== at) return;
    if (!step.data || step.problem) return void (left.current = 0);
    const forwards = left.current > 0;
    const to = forwards ? step.data.next : step.data.previous;
    left.current = to === null ? 0 : left.current - (forwards ? 1 : -1);
    if (to !== null) move(String(to));
    else if (forwards) move("head");
  };
  useEffect(walk);
  return (by) => () => {
    left.current = Math.max(-MOST_STEPS, Math.min(MOST_STEPS, left.current + by));
    walk();
  };
}

/** A chosen value, in full. */
function Whole({ path, value }) {
  if (value === undefined || (value !== null && typeof value === "object" && !isSealed(value) && !isErased(value))) return null;
  const text = typeof value === "string" ? value : null;
  return html`<div class="whole"><bdi class="path">${shown(path)}</bdi>${text !== null && text.length > 60 ? html`<pre tabindex="0">${shown(text).replaceAll("\\n", "\n")}</pre>` : html`<${Value} value=${value} limit=${400} />`}</div>`;
}

const VIEWS = [["changes", "Changed here"], ["compare", "Compare"], ["blame", "Blame"], ["watch", "Watch"]];

export function Screen() {
  const subject = subjectOf();
  const at = here.value;
  const view = param("view").value ?? "changes";
  const path = param("path").value ?? "";
  const [grafts, setGrafts] = useState([]);
  const base = JSON.stringify([subject.fold, subject.of, at]);
  const state = useAsked(at === null ? null : stateUrl(subject, "", { at, max_entries: 200 }), { keep: true, after: 20 });
  const step = useAsked(at === null ? null : stateUrl(subject, "/step", { at }), { keep: true, after: 40 });
  const by = useStateSteps(step, at);
  const choose = (chosen) => go({ path: chosen }, { replace: true });
  const whole = useMemo(() => grafts.filter((one) => one.base === base).reduce((value, one) => grafted(value, one.path, one.part), state.data?.state), [state.data, grafts, base]);
  const cut = useMemo(() => new Map([...(state.data?.cut ?? []), ...grafts.filter((one) => one.base === base).flatMap((one) => one.cut)].map((one) => [sameForm(one.path), one.entries])), [state.data, grafts, base]);
  const { marks, gone, open } = useMarks(step.data?.changes);
  const more = async (of) => {
    try {
      const found = await ask(stateUrl(subject, "", { at, path: of, max_entries: 2000 }));
      setGrafts([...grafts.filter((one) => one.base === base), { base, path: of, part: found.state, cut: found.cut.filter((one) => sameForm(one.path) !== sameForm(of) || one.entries > 2000) }]);
    } catch (error) {
      complain(error);
    }
  };
  const watched = param("watch").value ?? path;
  // Keys do what they do for what is shown now.
  useEffect(() => offer(
    { keys: ["j", "ArrowDown"], title: "Next change of this state", group: "State", run: by(1) },
    { keys: ["k", "ArrowUp"], title: "Previous change of this state", group: "State", run: by(-1) },
    { keys: ["b"], title: "Who wrote it", group: "State", run: () => go({ view: "blame" }) },
    { keys: ["c"], title: "Compare with the pin", group: "State", run: () => go({ view: "compare" }) },
    { keys: ["v"], title: "Watch the chosen value", group: "State", run: () => go({ view: "watch" }) },
    { keys: ["["], title: "Previous change of the value", group: "State", run: () => watched && toWrite(subject, watched, at, false) },
    { keys: ["]"], title: "Next change of the value", group: "State", run: () => watched && toWrite(subject, watched, at, true) },
    { keys: ["s"], title: "Choose a stream", group: "State", run: () => document.getElementById("stream")?.focus() },
  ));
  const value = useMemo(() => valueAt(whole, path), [whole, path]);
  return html`<div class="panes even">
    <section class="pane" aria-label="State">
      <${SubjectChooser} subject=${subject}><${CopyButton} what="a command" text=${() => asCommand("at", { ...subject.of, at })}>as command<//><//>
      ${state.problem ? html`<${ProblemBox} problem=${state.problem} again=${state.again} />`
        : whole === undefined ? html`<${Loading} />`
        : whole === null || typeof whole !== "object" ? html`<div class="block single"><${Value} value=${whole} limit=${4000} /></div>`
        : Object.keys(whole).length === 0 && !gone.size ? html`<${Empty}><h2>Nothing yet</h2><p>The state is empty at position ${count(at)}.</p><//>`
        : html`<${Tree} key=${subject.fold + (subject.of.stream ?? "")} value=${whole} label="State" marks=${marks} gone=${gone} cut=${cut} openPaths=${open} chosen=${path} onChoose=${choose} onMore=${more} openLevels=${subject.fold === "documents" ? 1 : 2} />`}
      <${Whole} path=${path} value=${value} />
    </section>
    <section class="pane side" aria-label="About the state">
      <div class="filters"><${Choice} label="About the state" options=${VIEWS} value=${view} onChoose=${(view) => go({ view: view === "changes" ? null : view })} /></div>
      <div class="scrolled" tabindex="0" role="region" aria-label="Details">
        ${state.problem ? null : view === "compare" ? html`<${Compare} subject=${subject} at=${at} path=${path} onChoose=${choose} />`
          : view === "blame" ? html`<${Blame} subject=${subject} at=${at} path=${path} onChoose=${choose} />`
          : view === "watch" ? html`<${Watch} subject=${subject} at=${at} path=${path} value=${value} />`
          : step.problem ? html`<${ProblemBox} problem=${step.problem} again=${step.again} />`
          : step.data ? html`<div class="block"><${Here} step=${step.data} /><${Changes} changes=${step.data.changes} more=${step.data.more_changes} chosen=${path} onChoose=${choose} none="This event changed nothing in the state." /></div>` : html`<${Loading} />`}
      </div>
    </section></div>`;
}

const valueAt = (value, path) => (path ? keysOf(path).reduce((part, key) => (part === null || typeof part !== "object" ? undefined : part[key]), value) : undefined);
