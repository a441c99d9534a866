// Every command of the page: its keys, its words in the help and the palette, and what it does.
import { signal } from "./dom.js";

export const commands = signal([]);
export const overlay = signal(null); // "help", "palette" or a component

/** Add commands {keys, title, group, run}; returns what takes them out again. */
export function offer(...added) {
  commands.value = [...commands.value, ...added];
  return () => (commands.value = commands.value.filter((one) => !added.includes(one)));
}

const isTyping = (target) => target.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]");

export function keyOf(event) {
  const key = event.key.length === 1 ? event.key : event.key;
  return (event.ctrlKey || event.metaKey ? "Ctrl-" : "") + (event.altKey ? "Alt-" : "") + key;
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing) return;
  const key = keyOf(event);
  if (key === "Ctrl-k") {
    event.preventDefault();
    overlay.value = overlay.value === "palette" ? null : "palette";
    return;
  }
  if (key === "Escape") {
    if (overlay.value) {
      event.preventDefault();
      overlay.value = null;
    } else if (isTyping(event.target)) event.target.blur();
    return;
  }
  if (overlay.value || isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const found = commands.value.findLast((one) => one.keys?.includes(key));
  if (found) {
    event.preventDefault();
    found.run(event);
  }
});
