// Events, filtered by the server over all of history, in four ways of looking at them.
import { html } from "../dom.js";
import { asCommand } from "../components/copies.js";
import { EventDetail } from "../components/event_detail.js";
import { EventList } from "../components/event_list.js";
import { useEventWindow } from "../components/event_window.js";
import { Filters, filtersOf } from "../components/filters.js";
import { Choice, CopyButton } from "../components/parts.js";
import { here } from "../store.js";
import { go, param } from "../url.js";
import { matesOf, useSteps } from "./timeline.js";

const MOST = { full: 70, commits: 90 }; // rows of more elements than those of other views
const VIEWS = [["compact", "Compact"], ["full", "In full"], ["commits", "By commit"], ["lanes", "Lanes"]];

export function Screen() {
  const filters = filtersOf();
  const view = param("view").value ?? "compact";
  const found = useEventWindow(filters, here.value, MOST[view]);
  useSteps(found);
  return html`<div class="panes">
    <section class="pane" aria-label="Events">
      <${Filters}><${Choice} label="Show events" options=${VIEWS} value=${view} onChoose=${(view) => go({ view: view === "compact" ? null : view })} />
        <${CopyButton} what="a command" text=${() => asCommand("events", { ...filters, at: here.value })}>as command<//><//>
      <${EventList} found=${found} view=${view} />
    </section>
    <section class="pane side" aria-label="The event"><div class="scrolled" tabindex="0" role="region" aria-label="Event"><${EventDetail} event=${found.events[found.index]} mates=${matesOf(found)} /></div></section>
  </div>`;
}
