// Screens are loaded when they are opened, or pointed at, or when there is nothing else to do.
import { html, signal, useEffect, useState } from "./dom.js";
import { Problem } from "./api.js";
import { Loading, ProblemBox } from "./components/parts.js";
import { SCREENS } from "./screens/index.js";

const loaded = signal({}); // components by the names of their screens
const loading = {};
const styles = {};

const styled = (path) =>
  (styles[path] ??= new Promise((resolve, reject) => {
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL(path, import.meta.url), onload: resolve });
    link.onerror = () => {
      link.remove();
      delete styles[path];
      reject(new Error(path));
    };
    document.head.append(link);
  }));

/** Load a screen, once. Raises where that fails; then it may be tried again. */
export async function load({ name, load, styles }) {
  loading[name] ??= Promise.all([load(), ...styles.map(styled)]);
  try {
    const [{ Screen }] = await loading[name];
    if (!loaded.value[name]) loaded.value = { ...loaded.value, [name]: Screen };
  } catch (error) {
    delete loading[name];
    throw error;
  }
}

/** Load a screen that may be opened soon; what fails is said when it is opened. */
export const foresee = (screen) => load(screen).catch(() => {});

const whenIdle = (doing) => (window.requestIdleCallback ? requestIdleCallback(doing, { timeout: 5000 }) : setTimeout(doing, 1000));

/** Load all the others, one after another, unless whoever looks saves data. */
export function foreseeAll() {
  if (navigator.connection?.saveData) return;
  whenIdle(async () => {
    for (const screen of SCREENS) await foresee(screen);
  });
}

/**
 * Once more. A browser may remember that a module failed, until the page is loaded anew: that loses
 * nothing, since the address has all that is seen.
 */
async function loadAgain(screen) {
  try {
    await load(screen);
  } catch (error) {
    const answer = await fetch(location.href, { method: "HEAD", cache: "no-store" });
    if (!answer.ok) throw error;
    location.reload();
  }
}

const FAILED = new Problem(0, { title: "This screen can't be loaded", detail: "The server didn't give its files. It may be away for a moment, or have another version of the page by now." });

/** A screen, once it is there. */
export function Opened({ screen }) {
  const [failed, setFailed] = useState(false);
  const tried = (loads) => {
    setFailed(false);
    loads(screen).catch(() => setFailed(true));
  };
  useEffect(() => tried(load), []);
  const Screen = loaded.value[screen.name];
  if (Screen) return html`<${Screen} />`;
  return failed ? html`<${ProblemBox} problem=${FAILED} again=${() => tried(loadAgain)} />` : html`<${Loading} />`;
}
