// Debugs a store with the client that VS Code's own adapters are tested with.
const assert = require("node:assert");
const { DebugClient } = require("@vscode/debugadapter-testsupport");

const [script, store] = process.argv.slice(2);
const client = new DebugClient("sh", script, "everwhen");
client.defaultTimeout = 20000;

async function top() {
  const { body } = await client.stackTraceRequest({ threadId: 1 });
  const frame = body.stackFrames[0];
  return (frame.source.sourceReference - 1) * 1000 + frame.line;
}

async function main() {
  await client.start();
  const [, , stopped] = await Promise.all([
    client.configurationSequence(),
    client.launch({ store, fold: "bank:bank", events: "bank:events", at: "2" }),
    client.waitForEvent("stopped"),
  ]);
  assert.equal(stopped.body.reason, "entry");
  assert.equal(await top(), 2);
  const scopes = (await client.scopesRequest({ frameId: 1 })).body.scopes;
  assert.deepEqual(scopes.map((scope) => scope.name), ["State", "Diff", "Event", "Metadata"]);
  const request = { variablesReference: scopes[1].variablesReference };
  const { variables } = (await client.variablesRequest(request)).body;
  assert.deepEqual(variables.map((v) => [v.name, v.value]), [["owners.bob", "+ 5"], ["total", "10 → 15"]]);
  await client.setFunctionBreakpointsRequest({ breakpoints: [{ name: "Withdrawn" }] });
  const [, hit] = await Promise.all([
    client.continueRequest({ threadId: 1 }),
    client.waitForEvent("stopped"),
  ]);
  assert.equal(hit.body.reason, "function breakpoint");
  assert.equal(await top(), 3);
  await Promise.all([client.stepBackRequest({ threadId: 1 }), client.waitForEvent("stopped")]);
  assert.equal(await top(), 2);
  const { body } = await client.evaluateRequest({ expression: "total * 2", frameId: 1 });
  assert.equal(body.result, "30");
  await assert.rejects(client.evaluateRequest({ expression: "totl" }), /did you mean total|no 'totl'/);
  await client.stop();
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
