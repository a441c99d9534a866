// The line on top: what is looked at, at which moment, and whether it is live.
import { html, useEffect, useRef, useState } from "../dom.js";
import { askOnce, busy, urlOf } from "../api.js";
import { overlay } from "../keys.js";
import { complain, follows, head, here, live, moment, nextTheme, overview, step, theme } from "../store.js";
import { count, listTime, shown, timeText } from "../text.js";
import { branch, go, move, param } from "../url.js";
import { Icon } from "./icons.js";
import { Link } from "./parts.js";

/** The event at a position, or null where there is none: as said by the server, remembered. */
export function useEventAt(position) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    if (!position) return void setFound(null);
    const abort = new AbortController();
    askOnce(urlOf(`/events/${position}`), { abort: abort.signal }).then(
      (event) => !abort.signal.aborted && setFound(event),
      (problem) => !abort.signal.aborted && (setFound(null), problem.status !== 404 && problem.status !== 410 && complain(problem)),
    );
    return () => abort.abort();
  }, [position, branch.value]);
  return found?.position === position ? found : null;
}

const Tool = ({ label, keys, icon, ...rest }) => html`<button class="tool" aria-label=${label} title=${keys ? `${label} (${keys})` : label} ...${rest}><${Icon} name=${icon} /></button>`;

/** Where we are in time, to be stepped or typed: a position, a time, a version, a bookmark. */
function Where() {
  const [typed, setTyped] = useState(null);
  const input = useRef(null);
  const position = here.value;
  const event = useEventAt(position);
  const time = useRef("");
  if (event) time.current = event.recorded_at;
  const submit = (done) => {
    done.preventDefault();
    const text = typed?.trim();
    if (text) move(text.replaceAll(",", ""));
    setTyped(null);
    input.current.blur();
  };
  return html`<form class="where" onSubmit=${submit} aria-label="Moment">
    <span class="joined">
      <${Tool} type="button" icon="first" label="To the first event" keys="Home" onClick=${() => step(1)} />
      <${Tool} type="button" icon="back" label="One event back" keys="k" onClick=${() => step(position - 1)} />
      <input id="goto" ref=${input} aria-label="Position, or a time such as 2013-05-01 14:00, 2h ago, head" autocomplete="off" spellcheck="false"
        value=${typed ?? (position === null ? moment.value.at ?? "" : count(position))}
        onFocus=${(e) => e.target.select()} onInput=${(e) => setTyped(e.target.value)} onBlur=${() => setTyped(null)} />
      <${Tool} type="button" icon="on" label="One event on" keys="j" onClick=${() => step(position + 1)} />
      <${Tool} type="button" icon="last" label="To the newest event" keys="End" onClick=${() => move("head")} />
    </span>
    <span class="of">of ${count(head.value.position)}</span>
    <time class="moment" title=${timeText(time.current)}>${time.current && `${listTime(time.current)}Z`}</time>
  </form>`;
}

function Live() {
  const state = live.value;
  const words = { live: follows.value ? "following" : "live", connecting: "connecting", off: "not live" }[state];
  return html`<button class=${`live is-${state}`} aria-pressed=${follows.value} title=${follows.value ? "Stay at this moment (l)" : "Follow new events (l)"}
    onClick=${toggleFollowing}><i></i>${words}</button>`;
}

export const toggleFollowing = () => (follows.value ? move(String(head.value.position)) : move("head"));

function Branches() {
  const found = overview.value?.branches ?? [branch.value];
  if (found.length < 2 && branch.value === "main") return null;
  const all = found.includes(branch.value) ? found : [branch.value, ...found];
  return html`<label class="branch"><span class="sr">Branch</span><select onChange=${(event) => go({ branch: event.target.value, at: null })}>
    ${all.map((name) => html`<option key=${name} value=${name} selected=${name === branch.value}>${shown(name)}</option>`)}
  </select></label>`;
}

export function Header() {
  const name = overview.value?.name;
  return html`<header class="top">
    <${Link} class="brand" to=${{ screen: "timeline", stream: null, path: null, view: null }} aria-label="Everwhen, to the timeline"><${Icon} name="logo" size=${18} /><b>Everwhen</b><//>
    ${name && name !== "main" && name !== branch.value && html`<span class="store"><bdi>${shown(name)}</bdi></span>`}
    <${Branches} />
    <${Where} />
    <span class="space"></span>
    <${Live} />
    <${Tool} icon="search" label="Commands" keys="Ctrl-K" onClick=${() => (overlay.value = "palette")} />
    <${Tool} icon=${theme.value} label=${`Colours: ${theme.value}`} keys="t" onClick=${nextTheme} />
    <${Tool} icon="help" label="Keyboard" keys="?" onClick=${() => (overlay.value = "help")} />
    <div class=${busy.value ? "progress on" : "progress"} aria-hidden="true"></div>
  </header>`;
}
