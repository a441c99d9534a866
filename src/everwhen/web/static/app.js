// The shell: header, tabs, timeline, and the screen that the address names.
import { effect, html, render, useEffect, useState } from "./dom.js";
import { signedOut } from "./api.js";
import { Header, toggleFollowing } from "./components/header.js";
import { Icon } from "./components/icons.js";
import { Help, Palette, Toasts } from "./components/overlays.js";
import { copy, Empty, Link, Loading, ProblemBox } from "./components/parts.js";
import { Strip } from "./components/strip.js";
import { offer, overlay } from "./keys.js";
import { foresee, foreseeAll, Opened } from "./loading.js";
import { SCREENS } from "./screens/index.js";
import { complain, head, here, nextTheme, overview, overviewProblem, pin, reload, step } from "./store.js";
import { count, shown } from "./text.js";
import { branch, go, move, param, screenName } from "./url.js";

const current = () => SCREENS.find((one) => one.name === screenName.value);

const Tabs = () => html`<nav class="tabs" aria-label="Screens">
  ${SCREENS.map((one) => html`<${Link} key=${one.name} to=${() => ({ screen: one.name, view: null })} aria-current=${one.name === screenName.value ? "page" : undefined} title=${`${one.title} (${one.key})`} onPointerEnter=${() => foresee(one)} onFocus=${() => foresee(one)}>
    <${Icon} name=${one.name} /><span>${one.title}</span><//>`)}
</nav>`;

/** Says where we are, at most once a second, for who can't see it. */
function Announced() {
  const [said, setSaid] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => here.value !== null && setSaid(`position ${count(here.value)} of ${count(head.value.position)}`), 1000);
    return () => clearTimeout(timer);
  }, [here.value]);
  return html`<div class="sr" role="status" aria-live="polite">${said}</div>`;
}

function Body() {
  const screen = current();
  if (overviewProblem.value && !overview.value)
    return html`<main id="main" class="alone">${signedOut.value
      ? html`<${Empty}><h1>Sign in</h1><p>Open the address that <code>everwhen serve</code> printed: it has the token.</p><button onClick=${reload}>Try again</button><//>`
      : html`<${ProblemBox} problem=${overviewProblem.value} again=${reload} />`}</main>`;
  if (!screen) return html`<main id="main" class="alone"><${Empty}><h1>There is no screen “${shown(screenName.value)}”</h1><${Link} to=${{ screen: "timeline" }}>To the timeline<//><//></main>`;
  if (!overview.value) return html`<main id="main" class="alone"><${Loading} /></main>`;
  return html`<main id="main" class=${`screen ${screen.name}`}><h1 class="sr">${screen.title}</h1>
    ${screen.hasStrip && head.value.position > 0 && html`<${Strip} height=${screen.name === "timeline" ? 104 : 64} />`}
    ${head.value.position === 0 && screen.hasStrip ? html`<${Empty}><h2>No events yet</h2><p>They appear here as soon as they are recorded.</p><//>` : html`<${Opened} key=${screen.name} screen=${screen} />`}</main>`;
}

function App() {
  const Over = overlay.value === "help" ? Help : overlay.value === "palette" ? Palette : null;
  return html`<a class="skip" href="#main">To the content</a><${Header} /><${Tabs} /><${Body} /><${Toasts} /><${Announced} />${Over && html`<${Over} />`}`;
}

const focus = (id) => () => {
  const found = document.getElementById(id);
  if (found) found.focus();
  else if (id === "filter") {
    go({ screen: "events", view: null });
    requestAnimationFrame(() => document.getElementById(id)?.focus());
  }
};

offer(
  ...SCREENS.map((one) => ({ keys: [one.key], title: `Show ${one.title.toLowerCase()}`, group: "Screens", run: () => go({ screen: one.name, view: null }) })),
  { keys: ["j", "ArrowDown"], title: "Next event", group: "Time", run: () => step(here.value + 1) },
  { keys: ["k", "ArrowUp"], title: "Previous event", group: "Time", run: () => step(here.value - 1) },
  { keys: ["Home"], title: "To the first event", group: "Time", run: () => step(1) },
  { keys: ["End"], title: "To the newest event", group: "Time", run: () => move("head") },
  { keys: ["g"], title: "Go to a position or a time", group: "Time", run: focus("goto") },
  { keys: ["l"], title: "Follow new events, or stay", group: "Time", run: toggleFollowing },
  { keys: ["p"], title: "Pin this moment, to compare with", group: "Time", run: () => go({ pin: pin.value === here.value ? null : here.value }) },
  { keys: ["P"], title: "To the pinned moment", group: "Time", run: () => pin.value && move(String(pin.value)) },
  { keys: ["/"], title: "Filter events", group: "Events", run: focus("filter") },
  { keys: ["t"], title: "Colours: light, dark, or the system's", group: "Page", run: nextTheme },
  { keys: ["y"], title: "Copy the link to this view", group: "Page", run: () => copy(location.href, "the link") },
  { keys: ["?"], title: "Keyboard", group: "Page", run: () => (overlay.value = "help") },
  { keys: ["Ctrl-k"], title: "All commands", group: "Page", run: () => (overlay.value = "palette") },
);

effect(() => {
  document.title = `${current()?.title ?? "Everwhen"} · ${shown(overview.value?.name ?? branch.value)} · Everwhen`;
});
effect(() => {
  const screen = current();
  if (screen) foresee(screen);
});
effect(() => overview.value && foreseeAll());
addEventListener("unhandledrejection", (event) => complain(event.reason));
const root = document.getElementById("app");
root.replaceChildren();
sessionStorage.removeItem("everwhen.tries");
render(html`<${App} />`, root);
