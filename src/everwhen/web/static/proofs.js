// Checks a proof that a commit is in a signed log, as docs/reference/proofs.md has it: with nothing
// but the browser's SHA-256 and Ed25519. The server is asked nothing, and trusted in nothing.

const HEAD = 84;
const PREFIX = "everwhen-commit/v1\n";
const CONTENT = "everwhen-content/v1\n";
const TITLE = "c2sp.org/tlog-proof@v1";
const MOST = (1n << 63n) - 1n;
const PRIME = (1n << 255n) - 19n;
const OF_ORDER_8 = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n;
const SMALL = [0n, 1n, PRIME - 1n, OF_ORDER_8, PRIME - OF_ORDER_8];

const must = (holds, why) => {
  if (!holds) throw new Error(why);
};
const utf8 = new TextEncoder();
const readUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const joined = (...parts) => {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
};
const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...parts)));
const same = (one, other) => one.length === other.length && one.every((byte, index) => byte === other[index]);
export const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function base64(text, what) {
  let binary = "";
  try {
    binary = atob(text);
  } catch {
    // said below
  }
  must(binary && btoa(binary) === text, `${what} is not base64`);
  return Uint8Array.from(binary, (one) => one.charCodeAt(0));
}

function numberIn(text, what) {
  must(/^(0|[1-9]\d{0,18})$/.test(text) && BigInt(text) <= MOST, `${what} is not a number of entries`);
  return BigInt(text);
}

/** A public key's text: {name, id, key}. */
async function keyOf(vkey) {
  const found = /^([^\s+]+)\+([0-9a-f]{8})\+(\S+)$/.exec(vkey.trim());
  must(found && !vkey.startsWith("PRIVATE"), "the log's key is not a public key, name+id+base64");
  const material = base64(found[3], "the log's key");
  must(material[0] === 1 && material.length === 33, "the log's key is not an Ed25519 key of a log");
  const id = (await sha256(utf8.encode(found[1] + "\n"), material)).slice(0, 4);
  must(hex(id) === found[2], "the key's id does not fit it");
  const height = BigInt("0x" + hex(material.slice(1).reverse())) & ((1n << 255n) - 1n);
  must(height < PRIME && !SMALL.includes(height), "the key is weak: anyone can sign for it");
  return { name: found[1], id, key: material.slice(1) };
}

/** A signed text: {text, signatures: [{name, id, body}]}. */
function noteOf(note) {
  const at = note.lastIndexOf("\n\n");
  must(at > 0 && note.endsWith("\n") && !/[\x00-\x09\x0b-\x1f]/.test(note), "the checkpoint is not a signed note");
  const signatures = note.slice(at + 2, -1).split("\n").map((line) => {
    const found = /^— ([^\s+]+) (\S+)$/.exec(line);
    must(found, "a line below the checkpoint is not a signature");
    const data = base64(found[2], "a signature");
    must(data.length >= 5, "a signature is incomplete");
    return { name: found[1], id: data.slice(0, 4), body: data.slice(4) };
  });
  return { text: note.slice(0, at + 1), signatures };
}

export function checkpointOf(note) {
  const { text, signatures } = noteOf(note);
  const lines = text.slice(0, -1).split("\n");
  must(lines.length >= 3 && lines.every(Boolean), "the checkpoint does not have three lines");
  const root = base64(lines[2], "the root");
  must(root.length === 32, "the root does not have 32 bytes");
  return { origin: lines[0], size: numberIn(lines[1], "the size"), root, text, signatures };
}

function parsed(proof) {
  const at = proof.indexOf("\n\n");
  const lines = proof.slice(0, Math.max(0, at)).split("\n");
  must(at > 0 && lines[0] === TITLE, `it does not begin with “${TITLE}”`);
  must(lines[1]?.startsWith("extra ") && lines[2]?.startsWith("index ") && lines.length < 67, "it lacks the entry or its index");
  const path = lines.slice(3).map((line) => base64(line, "a hash of the way"));
  must(path.every((one) => one.length === 32), "a hash of the way does not have 32 bytes");
  return { extra: base64(lines[1].slice(6), "the entry"), index: numberIn(lines[2].slice(6), "the index"), path, note: proof.slice(at + 2) };
}

async function entryOf(extra) {
  const isHashed = extra.length >= HEAD && extra[HEAD - 1] === 1;
  const entry = isHashed ? extra.slice(0, HEAD + 32) : extra;
  must(entry.length >= HEAD && entry.length <= 65535 && (isHashed ? entry.length === HEAD + 32 : extra[HEAD - 1] === 0), "the entry is not one of a commit");
  must(same(entry.slice(0, 19), utf8.encode(PREFIX)), "the entry does not begin as one of a commit does");
  const content = extra.slice(isHashed ? HEAD + 32 : HEAD);
  if (isHashed && content.length) {
    must(same(await sha256(utf8.encode(CONTENT), content), entry.slice(HEAD)), "the content does not fit its hash");
    must(HEAD + content.length > 65535, "the content is so short that the entry must contain it");
  }
  const view = new DataView(entry.buffer, entry.byteOffset);
  const id = hex(entry.slice(67, 83)).replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  return { leaf: await sha256([0], entry), index: view.getBigUint64(19), micros: view.getBigInt64(59), id, slices: content.length ? slicesOf(content) : [] };
}

function slicesOf(content) {
  const view = new DataView(content.buffer, content.byteOffset, content.length);
  let at = 0;
  const taken = (size) => {
    must(at + size <= content.length, "the entry ends too early");
    return (at += size) - size;
  };
  const texts = (size) => readUtf8.decode(content.slice(taken(size), at));
  const metadata = view.getUint32(taken(4));
  if (metadata !== 0xffffffff) taken(metadata);
  const slices = [];
  while (at < content.length) {
    const position = view.getBigUint64(taken(8)), version = view.getBigUint64(taken(8)), events = view.getUint32(taken(4));
    const stream = texts(view.getUint16(taken(2)));
    slices.push({ position, version, events, stream, body: texts(view.getUint32(taken(4))) });
  }
  must(slices.length, "the entry has no events");
  return slices;
}

/** The hash that the way leads to from a leaf; RFC 9162, 2.1.3.2. */
async function climbed(leaf, index, size, path) {
  let node = index, last = size - 1n, hash = leaf;
  for (const sibling of path) {
    must(last > 0n, "the way is too long");
    if (node & 1n || node === last) {
      hash = await sha256([1], sibling, hash);
      while (!(node & 1n) && node > 0n) (node >>= 1n), (last >>= 1n);
    } else hash = await sha256([1], hash, sibling);
    (node >>= 1n), (last >>= 1n);
  }
  must(last === 0n, "the way is too short");
  return hash;
}

/**
 * Check a proof by the log's keys, {vkey, first?, last?}. Gives each step that was gone, {title,
 * detail, holds}; it holds where all of them do. `position` is that of the event that is meant.
 */
export async function verified(text, keys, position = null) {
  const steps = [];
  let proof, entry, checkpoint;
  const STEPS = [
    ["The file is a proof", async () => {
      proof = parsed(text);
      return `entry ${proof.index}, ${proof.path.length} hashes on the way`;
    }],
    ["Its entry is a commit", async () => {
      entry = await entryOf(proof.extra);
      must(entry.index === proof.index, `the entry says index ${entry.index}, the proof ${proof.index}`);
      const holds = position === null || entry.slices.some((one) => BigInt(position) <= one.position && BigInt(position) > one.position - BigInt(one.events));
      must(holds, `the commit has no event at position ${position}`);
      return `commit ${entry.id}: ${entry.slices.map((one) => `${one.stream} version ${one.version}`).join(", ")}`;
    }],
    ["The log has signed the checkpoint", async () => {
      checkpoint = checkpointOf(proof.note);
      let signer = null;
      for (const given of keys) {
        const key = await keyOf(given.vkey);
        const signature = checkpoint.signatures.find((one) => one.name === key.name && same(one.id, key.id));
        if (!signature) continue;
        const imported = await crypto.subtle.importKey("raw", key.key, { name: "Ed25519" }, false, ["verify"]);
        must(await crypto.subtle.verify("Ed25519", imported, signature.body, utf8.encode(checkpoint.text)), `the signature of ${key.name} is wrong`);
        if (key.name === checkpoint.origin && BigInt(given.first ?? 0) <= checkpoint.size && (given.last == null || checkpoint.size <= BigInt(given.last))) signer = key;
      }
      must(signer, `no key that is known here has signed for “${checkpoint.origin}”`);
      return `Ed25519 by ${signer.name}+${hex(signer.id)}: a tree of ${checkpoint.size} commits`;
    }],
    ["The way leads from the commit to the signed root", async () => {
      must(proof.index < checkpoint.size, `a tree of ${checkpoint.size} has no entry ${proof.index}`);
      const root = await climbed(entry.leaf, proof.index, checkpoint.size, proof.path);
      must(same(root, checkpoint.root), `it leads to ${hex(root)}, but ${hex(checkpoint.root)} is signed`);
      return `SHA-256 from leaf ${hex(entry.leaf)} to root ${hex(root)}`;
    }],
  ];
  for (const [title, step] of STEPS) {
    try {
      must(crypto.subtle, "this browser checks nothing on pages that are not loaded safely: by 127.0.0.1 or https");
      steps.push({ title, detail: await step(), holds: true });
    } catch (error) {
      steps.push({ title, detail: error.message || String(error.name), holds: false });
      break;
    }
  }
  return { steps, holds: steps.every((step) => step.holds), entry, checkpoint };
}
