// When did it hold? A condition on the state, searched through history by the server.
import { html, useEffect, useRef, useState } from "../dom.js";
import { ask, post, urlOf } from "../api.js";
import { asCommand } from "../components/copies.js";
import { Choice, CopyButton, Empty, ProblemBox, StreamName, TypeName } from "../components/parts.js";
import { stateUrl, SubjectChooser, subjectOf } from "../components/subject.js";
import { useAsked } from "../api.js";
import { here, overview, ticks } from "../store.js";
import { count, plural, shown, timeText } from "../text.js";
import { go, move, param } from "../url.js";

const WHICH = [["first", "First"], ["last", "Last"], ["all", "All"], ["transitions", "Changes"]];

/** Starts a search when there is a new one, and follows it. */
function useFind(asked) {
  const [find, setFind] = useState(null);
  const [problem, setProblem] = useState(null);
  const id = useRef(null);
  const key = JSON.stringify(asked);
  useEffect(() => {
    setFind(null);
    setProblem(null);
    ticks.value = [];
    if (!asked) return;
    let over = false;
    let source = null;
    const show = (found) => {
      if (over) return;
      id.current = found.id;
      setFind(found);
      ticks.value = found.hits.map((hit) => ({ position: hit.position }));
      if (found.status === "running") follow(found.id);
      else stop();
    };
    const follow = (of) => {
      if (source) return;
      source = new EventSource(urlOf(`/finds/${of}/live`));
      source.onmessage = (event) => show(JSON.parse(event.data));
      source.onerror = () => source?.readyState === EventSource.CLOSED && ask(urlOf(`/finds/${of}`)).then(show, fail);
    };
    const stop = () => {
      source?.close();
      source = id.current = null;
    };
    const fail = (error) => !over && (stop(), setProblem(error), setFind(null));
    post("/finds", asked).then(show, fail);
    return () => {
      over = true;
      if (id.current) ask(urlOf(`/finds/${id.current}`), { method: "DELETE" }).catch(() => {});
      stop();
    };
  }, [key]);
  const cancel = () => id.current && ask(urlOf(`/finds/${id.current}`), { method: "DELETE" }).then((found) => setFind((old) => old && { ...old, status: "cancelled", ...(found ?? {}) }), setProblem);
  return { find, problem, cancel };
}

/** Conditions that make sense for the state that is there: by its own names. */
function Examples({ subject, onChoose }) {
  const { data } = useAsked(here.value === null ? null : stateUrl(subject, "", { at: here.value, max_entries: 5 }), { keep: true });
  const found = [];
  const walk = (value, path, depth) => {
    for (const [name, part] of Object.entries(value ?? {})) {
      if (found.length >= 5) return;
      if (!/^[A-Za-z_]\w*$/.test(name)) continue;
      const here = path ? `${path}.${name}` : name;
      if (typeof part === "number" && !["position", "version"].includes(name)) found.push(`${here} > ${Math.round(part / 2)}`);
      else if (typeof part === "string" && part.length < 24 && !name.endsWith("_at")) found.push(`${here} == ${JSON.stringify(part)}`);
      else if (typeof part === "boolean") found.push(`${here} == ${part}`);
      else if (part && typeof part === "object" && !Array.isArray(part) && depth < 2) walk(part, here, depth + 1);
    }
  };
  walk(data?.state, "", 0);
  if (!found.length) return null;
  return html`<div class="examples"><span class="dim">for example</span>${found.map((text) => html`<button class="quiet" onClick=${() => onChoose(text)}><code>${shown(text)}</code></button>`)}</div>`;
}

function Hits({ find, which }) {
  const at = here.value;
  if (!find.hits.length && find.status === "running") return null;
  if (!find.hits.length) return html`<${Empty}><h2>It never held</h2><p>Looked through ${plural(find.position ?? 0, "position")}.</p><//>`;
  return html`<ul class="hits" aria-label="Moments">${find.hits.map((hit) => html`<li key=${hit.position}><button class="step" aria-pressed=${hit.position === at} onClick=${() => move(String(hit.position))}>
    <span class="position">${count(hit.position)}</span><time class="dim">${timeText(hit.recorded_at)}</time>
    ${which === "transitions" && html`<span class=${hit.holds ? "holds yes" : "holds no"}>${hit.holds ? "+ holds" : "− doesn’t hold"}</span>`}
    ${hit.event && html`<${TypeName} name=${hit.event.type} /><${StreamName} name=${hit.event.stream} />`}</button></li>`)}</ul>`;
}

export function Screen() {
  const subject = subjectOf();
  const expression = param("find").value;
  const which = param("which").value ?? "first";
  const [text, setText] = useState(expression ?? "");
  useEffect(() => setText(expression ?? ""), [expression]);
  const { find, problem, cancel } = useFind(expression ? { fold: subject.fold, ...(subject.of.stream ? { stream: subject.of.stream } : {}), ...(subject.of.category ? { category: subject.of.category } : {}), expression, which } : null);
  const submit = (event) => {
    event.preventDefault();
    go({ find: text.trim() || null });
  };
  const share = find ? (find.head ? Math.min(1, (find.position ?? 0) / find.head) : 0) : 0;
  return html`<div class="panes one"><section class="pane" aria-label="Find when">
    <${SubjectChooser} subject=${subject} />
    <form class="asking" onSubmit=${submit}>
      <label class="field large"><span class="sr">Condition in CEL</span><input id="condition" value=${text} onInput=${(event) => setText(event.target.value)} autocomplete="off" spellcheck="false" placeholder="A condition on the state, such as data.amount > 100" /></label>
      <${Choice} label="Which moments" options=${WHICH} value=${which} onChoose=${(which) => go({ which: which === "first" ? null : which })} />
      <button class="act" disabled=${!text.trim()}>Find</button>
    </form>
    <div class="block"><${Examples} subject=${subject} onChoose=${(text) => go({ find: text })} /></div>
    <div class="scrolled" tabindex="0" role="region" aria-label="Found">
    ${problem && html`<${ProblemBox} problem=${problem} />`}
    ${find && html`<div class="block finding" role="status">
      ${find.status === "running" ? html`<progress aria-label="Searched" value=${share} max="1"></progress><span>${count(find.position ?? 0)} of ${count(find.head ?? 0)}</span><button class="quiet" onClick=${cancel}>Stop</button>`
        : find.status === "failed" ? html`<${ProblemBox} problem=${{ title: "The search failed", message: find.error?.detail ?? find.error?.title ?? String(find.error ?? "") }} />`
        : html`<span class="dim">${find.status === "cancelled" ? "Stopped. " : ""}${plural(find.hits.length, "moment")}</span><${CopyButton} what="a command" text=${() => asCommand("when", { ...subject.of, expression, which })}>as command<//>`}</div>
      <${Hits} find=${find} which=${which} />`}
    ${!expression && !problem && html`<${Empty}><h2>When did it hold?</h2><p>Write a condition on the state, in CEL. The moments at which it held become ticks on the timeline.</p><//>`}
    </div></section></div>`;
}
