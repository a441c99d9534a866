// One branch: what it is, what was written on it last; made and deleted.
import { html, useState } from "../dom.js";
import { ask, post, urlOf, useAsked } from "../api.js";
import { here, toast } from "../store.js";
import { count, listTime, plural, shown, timeText } from "../text.js";
import { branch, go } from "../url.js";
import { Act, lacks, Reasons } from "./allowed.js";
import { Summary } from "./event_list.js";
import { useEventAt } from "./header.js";
import { Icon } from "./icons.js";
import { Dialog } from "./overlays.js";
import { Link, Loading, ProblemBox, StreamName, TypeName } from "./parts.js";
import { useCarriedOut, written } from "./plans.js";

/** Events as links to where they are, on their branch. */
export function EventLinks({ events, of, mark, label }) {
  return html`<ol class="event-links" aria-label=${label}>${events.map((event) => html`<li key=${event.position} class=${event.position === mark ? "marked" : ""}>
    <${Link} to=${{ branch: of, screen: "timeline", at: event.position, view: null }}>
      <span class="position">${count(event.position)}</span><${TypeName} name=${event.type} /><${StreamName} name=${event.stream} />
      <span class="summary"><${Summary} data=${event.data} limit=${110} /></span><//>${event.position === mark && html`<em>first difference</em>`}</li>`)}</ol>`;
}

function Newest({ lane }) {
  const after = lane.fork_position ?? 0;
  const { data, problem, again } = useAsked(urlOf("/events", { after, order: "backwards", limit: 12 }, lane.name) + `#${written.value}`);
  if (problem) return html`<${ProblemBox} problem=${problem} again=${again} />`;
  if (!data) return html`<${Loading} />`;
  return data.events.length ? html`<${EventLinks} events=${data.events} of=${lane.name} label="Newest events" />` : html`<p class="dim">Nothing has been written on it.</p>`;
}

const Fact = ({ name, children }) => html`<div><dt>${name}</dt><dd>${children}</dd></div>`;
const At = ({ of, position }) => html`<${Link} to=${{ branch: of, screen: "timeline", at: position, view: null }}>${count(position)}<//>`;

export function BranchDetails({ lane, lanes, merges, onMake, onDelete, onOpen }) {
  const reason = lacks("operate");
  const children = lanes.filter((one) => one.parent === lane.name);
  const gone = merges.filter((one) => one.id === lane.id);
  const come = merges.filter((one) => one.into === lane.name);
  return html`<div class="scrolled" tabindex="0" role="region" aria-label="The branch"><div class="about">
    <article class="detail" aria-label=${`Branch ${shown(lane.name)}`}>
      <header><h2><bdi>${shown(lane.name)}</bdi></h2></header>
      <div class="tools">
        ${lane.name === branch.value ? html`<span class="chip here-chip">you are here</span>` : html`<button class="act" onClick=${() => onOpen(lane.name)}>Go to this branch</button>`}
        <${Act} reason=${reason} onClick=${onMake}><${Icon} name="branches" size=${13} />New branch at ${here.value === null ? "the moment" : count(here.value)}<//>
        ${lane.parent !== undefined && html`<${Act} reason=${reason} onClick=${onDelete}>Delete…<//>`}
      </div>
      <${Reasons} reasons=${[reason && `You can't make, merge or delete branches. ${reason}`]} />
      <dl class="facts">
        ${lane.parent !== undefined && html`<${Fact} name="forks off"><bdi>${shown(lane.parent)}</bdi> after <${At} of=${lane.parent} position=${lane.fork_position} /><//>`}
        <${Fact} name="newest"><${At} of=${lane.name} position=${lane.head} /><//>
        <${Fact} name=${lane.parent === undefined ? "events" : "its own"}>${lane.parent === undefined ? count(lane.head) : plural(lane.head - lane.fork_position, "event")}<//>
        ${lane.created_at && html`<${Fact} name="made">${timeText(lane.created_at)}<//>`}
        ${children.length > 0 && html`<${Fact} name="branches off it">${children.map((one, index) => html`${index ? ", " : ""}<${Link} to=${{ pick: one.name }}><bdi>${shown(one.name)}</bdi><//>`)}<//>`}
        ${gone.map((one) => html`<${Fact} name="merged into"><bdi>${shown(one.into)}</bdi> at <${At} of=${one.into} position=${one.position} /><span class="dim">, ${one.commits ? plural(one.commits, "picked commit") : `all up to ${count(one.up_to)}`}</span><//>`)}
        ${come.map((one) => html`<${Fact} name="has merged"><bdi>${shown(one.source)}</bdi> at <${At} of=${lane.name} position=${one.position} /><//>`)}
      </dl>
    </article>
    <section class="newest"><h3>${lane.parent === undefined ? "Newest events" : "Its newest events"}</h3><${Newest} key=${lane.name} lane=${lane} /></section>
  </div></div>`;
}

/** Asks for a name, and makes a branch where we are; after the commit, where that is inside one. */
export function MakeBranch({ onClose }) {
  const [name, setName] = useState("");
  const event = useEventAt(here.value);
  const commit = useAsked(event ? urlOf(`/commits/${event.commit_id}`) : null, { keep: true }).data;
  const end = Math.max(here.value ?? 0, commit?.position ?? 0);
  const { run, working, failed } = useCarriedOut(async () => {
    const made = await post("/branches", { name: name.trim(), at: String(end) });
    toast(`There is a branch ${made.name}`, `from position ${count(made.fork_position)} on`, "done");
    onClose();
    go({ pick: made.name, with: null, view: null });
  });
  return html`<${Dialog} label="New branch" class="asks" onClose=${onClose}><form onSubmit=${(event) => (event.preventDefault(), run())}>
    <h2>New branch</h2>
    <p>It begins on <bdi><b>${shown(branch.value)}</b></bdi> after position <b>${count(end)}</b>${event && html`<span class="dim">, ${listTime(event.recorded_at)}</span>`}. What is written on it never appears on ${shown(branch.value)} unless it is merged.</p>
    ${end > (here.value ?? 0) && html`<p class="dim">Position ${count(here.value)} is inside a commit, which is on a branch as a whole: so the branch begins at its end.</p>`}
    <label class="field large"><span class="sr">Its name</span><input autofocus value=${name} onInput=${(e) => setName(e.target.value)} placeholder="Its name, such as plan-b" autocomplete="off" spellcheck="false" maxlength="120" /></label>
    ${failed && html`<${ProblemBox} problem=${failed} />`}
    <p class="buttons"><button type="button" class="quiet" onClick=${onClose}>Cancel</button><button class="act" disabled=${working || !name.trim()}>Make the branch</button></p>
  </form><//>`;
}

/** Says what is lost, and deletes when that is confirmed. */
export function DeleteBranch({ lane, lanes, onClose }) {
  const below = (name) => lanes.filter((one) => one.parent === name).flatMap((one) => [one, ...below(one.name)]);
  const children = below(lane.name);
  const [agreed, setAgreed] = useState(false);
  const own = [lane, ...children].reduce((sum, one) => sum + one.head - one.fork_position, 0);
  const { run, working, failed } = useCarriedOut(async () => {
    const url = urlOf(`/branches/${encodeURIComponent(lane.name)}`, children.length ? { with_children: "true" } : {}, "main");
    const { deleted } = await ask(url, { method: "DELETE" });
    const isHere = deleted.some((one) => one.name === branch.value);
    toast(deleted.length === 1 ? `Branch ${lane.name} is deleted` : `${plural(deleted.length, "branch", "branches")} are deleted`, "", "done");
    onClose();
    go({ pick: lane.parent, with: null, ...(isHere ? { branch: lane.parent, at: null } : {}) });
  });
  return html`<${Dialog} label="Delete the branch" class="asks" onClose=${onClose}><form onSubmit=${(event) => (event.preventDefault(), run())}>
    <h2>Delete <bdi>${shown(lane.name)}</bdi>?</h2>
    <p>${own ? html`<b>${plural(own, "event")}</b> that ${own === 1 ? "was" : "were"} written on it ${own === 1 ? "is" : "are"} lost for good.` : "Nothing was written on it."} ${shown(lane.parent)}, and what was merged, stays as it is.</p>
    ${children.length > 0 && html`<label class="check"><input type="checkbox" checked=${agreed} onChange=${(e) => setAgreed(e.target.checked)} /><span>Also delete what forks off it: ${children.map((one, index) => html`${index ? ", " : ""}<bdi><b>${shown(one.name)}</b></bdi>`)}</span></label>`}
    ${failed && html`<${ProblemBox} problem=${failed} />`}
    <p class="buttons"><button type="button" autofocus class="quiet" onClick=${onClose}>Keep it</button><button class="act danger" disabled=${working || (children.length > 0 && !agreed)}>Delete the branch</button></p>
  </form><//>`;
}

