// The guide's receiver, with the official Standard Webhooks library, against the running binary.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { Browser } from "../harness/browser.mjs";
import { filesOf } from "../harness/guide.mjs";
import { onEveryEngine, signUp } from "../harness/suite.mjs";
import { freePort } from "../harness/tollgate.mjs";

/** The guide's receiver as a process of its own; what it prints can be waited for. */
async function startReceiver(port, secret) {
  const files = await filesOf("receive-events.md");
  const env = { ...process.env, PORT: String(port), HOOK_SECRET: secret };
  const receiver = spawn(process.execPath, ["receiver.mjs"], { cwd: files.folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let written = "";
  let more = () => {};
  for (const stream of [receiver.stdout, receiver.stderr]) {
    stream.on("data", (chunk) => {
      written += chunk;
      more();
    });
  }
  const says = async (text, within = 15_000) => {
    const end = AbortSignal.timeout(within);
    while (!written.includes(text)) {
      assert.ok(!end.aborted && receiver.exitCode === null, `no "${text}" in:\n${written}`);
      await new Promise((resolve) => {
        more = resolve;
        setTimeout(resolve, 200);
      });
    }
  };
  await says("listening on");
  return {
    says,
    written: () => written,
    async stop() {
      receiver.kill();
      await once(receiver, "exit");
      await files.drop();
    },
  };
}

onEveryEngine(
  "the guide to events",
  (server) => {
    let receiver, address, secret;
    before(async () => {
      const port = await freePort();
      address = `http://127.0.0.1:${port}/hooks`;
      secret = JSON.parse(await server.run("hooks", "add", address, "--json")).secret;
      receiver = await startReceiver(port, secret);
    });
    after(() => receiver.stop());

    test("the official library takes what is sent", async () => {
      const { user } = await signUp(new Browser(server));
      await receiver.says(`welcome ${user.email}`);
      await server.run("credits", "grant", user.id, "20", "--reason", "tests");
      await server.run("credits", "adjust", user.id, "-15", "--reason", "tests");
      await receiver.says(`${user.id} has 5 credits left`);
      const log = JSON.parse(await server.run("hooks", "log", "--json")).items;
      const taken = log.filter((line) => line.type === "user.created").map((line) => [line.state, line.status]);
      assert.deepEqual(taken, [["delivered", 204]]);
    });

    test("what was sent twice is done once, and what nobody signed is refused", async () => {
      const send = (id, signature, at) =>
        fetch(address, {
          method: "POST",
          headers: { "webhook-id": id, "webhook-timestamp": String(Math.floor(at / 1000)), "webhook-signature": signature },
          body,
        }).then((answer) => answer.status);
      const body = JSON.stringify({ type: "user.created", timestamp: new Date().toISOString(), data: { email: "twice@example.com" } });
      const [now, webhook] = [Date.now(), new Webhook(secret)];
      const signature = webhook.sign("evt_twice", new Date(now), body);
      assert.deepEqual([await send("evt_twice", signature, now), await send("evt_twice", signature, now)], [204, 204]);
      assert.equal(await send("evt_other", signature, now), 400);
      assert.equal(await send("evt_twice", new Webhook(`whsec_${btoa("another secret")}`).sign("evt_twice", new Date(now), body), now), 400);
      const early = now - 600_000;
      assert.equal(await send("evt_early", webhook.sign("evt_early", new Date(early), body), early), 400);
      assert.equal(receiver.written().split("twice@example.com").length, 2);
    });
  },
  { hooks: { allow_private: true }, credits: { low_balance: 10 } },
);
