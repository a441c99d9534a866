// Questions with a body, and what is asked anew once something was written.
import { signal, useEffect, useRef, useState } from "../dom.js";
import { ask } from "../api.js";
import { reload } from "../store.js";

/** Counts what this page has written: what depends on it is asked again. */
export const written = signal(0);

/**
 * {data, problem, loading, again} of a question by POST, asked again when it changes; nothing is
 * asked of null. The last answer stays until the next one is there, if `stays`.
 */
export function usePosted(url, body, { after = 0, stays = false } = {}) {
  const key = url === null || body === null ? null : JSON.stringify([String(url), body]);
  const [found, setFound] = useState({ data: undefined, problem: null, of: null });
  const again = useRef(0);
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (key === null) return;
    const abort = new AbortController();
    const timer = setTimeout(() => ask(url, { method: "POST", body, abort: abort.signal }).then(
      (data) => !abort.signal.aborted && setFound({ data, problem: null, of: key }),
      (problem) => !abort.signal.aborted && setFound({ data: undefined, problem, of: key }),
    ), after);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [key, round]);
  const isThis = found.of === key;
  const repeat = () => {
    setFound({ data: undefined, problem: null, of: null });
    setRound(++again.current);
  };
  return { data: key !== null && (isThis || stays) ? found.data : undefined, problem: isThis ? found.problem : null, loading: key !== null && !isThis, again: repeat };
}

/**
 * {run, working, done, failed, clear} of a plan that is carried out once somebody says so: `send`
 * does it and returns what is `done`, and all that depends on what is written is asked anew.
 */
export function useCarriedOut(send) {
  const [failed, setFailed] = useState(null);
  const [done, setDone] = useState(null);
  const [working, setWorking] = useState(false);
  const run = async () => {
    setWorking(true);
    setFailed(null);
    try {
      setDone(await send());
      written.value++;
      await reload();
    } catch (error) {
      setFailed(error);
    }
    setWorking(false);
  };
  return { run, working, done, failed, clear: () => setFailed(null) };
}
