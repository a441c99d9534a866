// What components are made of, from one place.
import { h, render, Fragment } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { render, Fragment };
export { useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
export { batch, computed, effect, signal, untracked, useComputed, useSignal, useSignalEffect } from "./vendor/signals.js";

/**
 * Elements out of a template. htm would keep those without values for good, and with them the first
 * tree that they were in; that one leads to the next, and so to every row that ever was in a list.
 */
export const html = htm.bind(function (...given) {
  this[0] = 3; // what it has made depends on values, as far as htm knows
  return h(...given);
});
