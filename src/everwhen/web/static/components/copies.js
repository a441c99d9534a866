// What is on the page, to be used elsewhere: as a test in Python, as a command for a terminal.
import { ask, urlOf } from "../api.js";
import { branch } from "../url.js";

/** A value as Python writes it. */
export function asPython(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "number") return String(value);
  if (typeof value === "string") return JSON.stringify(value).replace(/[^\x20-\x7e]/gu, escapedInPython);
  if (Array.isArray(value)) return `[${value.map(asPython).join(", ")}]`;
  return `{${Object.entries(value).map(([key, part]) => `${asPython(key)}: ${asPython(part)}`).join(", ")}}`;
}

function escapedInPython(character) {
  const code = character.codePointAt(0);
  return code > 0xffff ? "\\U" + code.toString(16).padStart(8, "0") : "\\u" + code.toString(16).padStart(4, "0");
}

const IS_NAME = /^[A-Za-z_]\w*$/;
const called = (type, data) => {
  const isPlain = IS_NAME.test(type) && Object.keys(data ?? {}).every((key) => IS_NAME.test(key));
  if (!isPlain) return `UnknownEvent(${asPython(type)}, ${asPython(data)})`;
  return `${type}(${Object.entries(data ?? {}).map(([key, part]) => `${key}=${asPython(part)}`).join(", ")})`;
};

const MOST_GIVEN = 20;

/** The events that the stream of this one had before its commit, and what else its commit wrote. */
export async function surroundings(event) {
  const first = event.version;
  const earlier = first > 1 ? await ask(urlOf("/events", { stream: event.stream, before: event.position, order: "backwards", limit: MOST_GIVEN + 1 })) : { events: [] };
  const written = await ask(urlOf(`/commits/${event.commit_id}`)).catch(() => ({ events: [event] }));
  const before = earlier.events.filter((one) => one.commit_id !== event.commit_id);
  return { before: before.slice(0, MOST_GIVEN).reverse(), written: written.events, isWhole: before.length <= MOST_GIVEN };
}

/** An example by given, when, then, in Python: what the stream had, the command, what was written. */
export function asTest(event, { before = [], written = [event], isWhole = true } = {}) {
  const command = written.find((one) => one.extras?.command)?.extras.command;
  const lines = (events) => events.map((one) => `            ${called(one.type, one.data)},\n`).join("");
  const given = before.length ? `.given(\n            ${asPython(event.stream)},\n${lines(before)}        )` : "";
  const when = command ? called(command.type, command.data) : "...";
  const text = `def test_${snake(event.type)}_at_${event.position}(scenario):
    # scenario = everwhen.testing.Scenario(decisions, events=EVENTS)
${isWhole ? "" : `    # given: only the last ${MOST_GIVEN} events of the stream before it\n`}${command ? "" : "    # when: the command isn't recorded with the event; write it here\n"}    (
        scenario${given}
        .when(${when})
        .then(
${lines(written)}        )
    )
`;
  return text.includes("UnknownEvent(") ? `from everwhen import UnknownEvent\n\n\n${text}` : text;
}

const snake = (name) => name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").replace(/\W+/g, "_").toLowerCase();

/** Words as a POSIX shell reads them; none can end the quotes or obey a terminal. */
export function quoted(word) {
  const text = String(word);
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  if (/[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/.test(text))
    return "$'" + text.replace(/[\\']/g, "\\$&").replace(/[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0")) + "'";
  return `'${text.replaceAll("'", "'\\''")}'`;
}

const withBranch = (words) => (branch.value === "main" ? words : [...words, "--branch", branch.value]);
const line = (...words) => ["everwhen", ...withBranch(words)].map((word) => (word === STORE ? word : quoted(word))).join(" ");
const STORE = "STORE";

/** The command line of a view. */
export function asCommand(what, about) {
  switch (what) {
    case "read":
      return line("read", STORE, "--after", about.position - 1, "--up-to", about.position, "--json");
    case "events":
      return line("read", STORE, ...["stream", "category", "type", "tag"].flatMap((name) => [about[name] ?? []].flat().flatMap((one) => [`--${name}`, one])),
        ...["as_at", "as_of"].flatMap((name) => (about[name] ? [`--${name.replace("_", "-")}`, about[name]] : [])), "--up-to", about.at, "--backwards", "--limit", 100);
    case "at":
      return line("at", STORE, about.at, ...(about.stream ? [about.stream] : []));
    case "diff":
      return line("diff", STORE, about.from, about.to, ...(about.stream ? [about.stream] : []));
    case "blame":
      return line("blame", STORE, about.path, ...(about.stream ? [about.stream] : []), "--at", about.at);
    case "history":
      return line("history", STORE, about.path, ...(about.stream ? [about.stream] : []));
    case "when":
      return line("when", STORE, about.expression, ...(about.stream ? [about.stream] : []), ...({ first: [], last: ["--last"], all: ["--all"], transitions: ["--changes"] })[about.which]);
  }
}
