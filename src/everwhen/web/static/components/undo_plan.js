// What undoing an event would append, and what speaks against it; and then that very plan, done.
import { html, useState } from "../dom.js";
import { post, urlOf } from "../api.js";
import { here, toast } from "../store.js";
import { brief, count, plural, shown } from "../text.js";
import { branch, go, move, param } from "../url.js";
import { lacks } from "./allowed.js";
import { Summary } from "./event_list.js";
import { useEventAt } from "./header.js";
import { Choice, Empty, Link, Loading, ProblemBox, StreamName, TypeName } from "./parts.js";
import { useCarriedOut, usePosted, written } from "./plans.js";

const TARGETS = [["event", "This event"], ["commit", "Its commit"], ["correlation", "All of its origin"]];
const WHAT = [["undo", "Undo"], ["redo", "Redo"]];

function Events({ title, events, words, why }) {
  if (!events.length) return null;
  return html`<h2 class="minor">${title} <small>${count(events.length)}</small></h2>${words && html`<p class="dim">${words}</p>`}
    <ul class="steps">${events.slice(0, 100).map((event) => html`<li key=${event.position}><button class="step" onClick=${() => move(String(event.position))}><span class="position">${count(event.position)}</span><${TypeName} name=${event.type} /><${StreamName} name=${event.stream} /><span class="summary"><${Summary} data=${event.data} limit=${80} /></span></button>
      ${why && html`<p class="reason">${shown(event[why])}</p>`}</li>`)}</ul>${events.length > 100 && html`<p class="dim">and ${plural(events.length - 100, "other")}</p>`}`;
}

function Appended({ writes }) {
  if (!writes.length) return null;
  return html`<h2 class="minor">It would append</h2><ul class="writes">${writes.flatMap((write) => write.events.map((event) => html`<li><span class="sign" aria-hidden="true">+</span><${TypeName} name=${event.type} /><${StreamName} name=${write.stream} /><bdi class="value">${brief(event.data, 120)}</bdi></li>`))}</ul>`;
}

/** Undoing the event that we are at, on the branch that we are on. */
export function UndoView() {
  const reason = lacks("operate");
  const event = useEventAt(here.value);
  const of = param("of").value ?? "event";
  const redo = param("do").value === "redo";
  const [partial, setPartial] = useState(false);
  const asked = event && { ...(of === "commit" ? { commit: event.commit_id } : of === "correlation" ? { correlation: event.correlation_id } : { event: event.event_id }), redo };
  const { data: plan, problem, loading, again } = usePosted(reason || !event ? null : `${urlOf("/undos")}#${written.value}`, asked && { ...asked, dry_run: true, dependents: 50 }, { after: 60 });
  const { run, working, done, failed, clear } = useCarriedOut(async () => {
    const receipt = await post("/undos", { ...asked, plan: plan.id, allow_partial: partial });
    toast(redo ? "It is done again" : "It is undone", `at position ${count(receipt.position)}`, "done");
    return { position: receipt.position, of: event.position };
  });
  if (reason) return html`<${Empty}><h2>You can look, but not undo</h2><p>${reason}</p><//>`;
  if (!event) return html`<${Empty}><h2>Which event?</h2><p>Go to the event that is to be undone: in the timeline, or by its position at the top.</p><//>`;
  const word = redo ? "redo" : "undo";
  const lookAgain = () => {
    clear();
    again();
  };
  const canDo = plan && plan.appended.length > 0 && (plan.is_complete || partial);
  return html`<div class="pair-head line">
      <${Choice} label="What to do" options=${WHAT} value=${word} onChoose=${(one) => go({ do: one === "undo" ? null : one })} /><${Choice} label="What is meant" options=${TARGETS} value=${of} onChoose=${(one) => go({ of: one === "event" ? null : one })} />
      <span class="subject-event"><span class="position">${count(event.position)}</span> <${TypeName} name=${event.type} /> <${StreamName} name=${event.stream} /></span></div>
    <div class="scrolled" tabindex="0" role="region" aria-label="Plan of the undo"><div class="block">
      ${done?.of === event.position && html`<div class="notice done" role="status"><strong>Done</strong><p>What it appended ends at position <${Link} to=${{ screen: "timeline", at: done.position, view: null }}>${count(done.position)}<//> of <bdi>${shown(branch.value)}</bdi>. Nothing in the past was changed.</p></div>`}
      ${failed && html`<${ProblemBox} problem=${failed} again=${lookAgain} />`}
      ${problem ? html`<${ProblemBox} problem=${problem} again=${again} />` : loading || !plan ? html`<${Loading}>Planning…<//>`
        : html`<p class="line"><span>${plan.appended.length ? `History stays as it is: to ${word} is to append what compensates it.` : `There is nothing to ${word} here.`}</span><span class="space"></span>
            <button class="act" disabled=${working || !canDo} onClick=${run}>${working ? "Working…" : redo ? "Redo as planned" : "Undo as planned"}</button></p>
          ${plan.uncompensated.length > 0 && html`<div class="notice"><strong>${plan.uncompensated.length === 1 ? "One event" : plural(plan.uncompensated.length, "event")} can't be ${redo ? "done again" : "undone"}</strong>
            <p>The reason stands beside ${plan.uncompensated.length === 1 ? "it" : "each"}. ${plan.appended.length ? "You can do it for the others only." : ""}</p>
            ${plan.appended.length > 0 && html`<label class="check"><input type="checkbox" checked=${partial} onChange=${(e) => setPartial(e.target.checked)} /><span>Do it for the others</span></label>`}</div>`}
          <${Events} title="Can't be compensated" events=${plan.uncompensated} why="reason" />
          <${Appended} writes=${plan.appended} />
          <${Events} title=${redo ? "Done again" : "Undone by that"} events=${redo ? plan.redone : plan.undone} />
          <${Events} title="Was so already" events=${plan.already} />
          <${Events} title="May rest on it" events=${plan.dependents} why="why" words=${plan.dependent_count > plan.dependents.length ? `${plural(plan.dependent_count, "later event")} in all; they stay as they are.` : "Later events, which stay as they are."} />
          <${Events} title="Audit entries stay" events=${plan.audit_entries} />`}
    </div></div>`;
}
