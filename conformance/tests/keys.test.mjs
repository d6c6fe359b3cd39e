// Keys for programs, and devices without a keyboard, through the official client's plugins.
import assert from "node:assert/strict";
import { test } from "node:test";
import { apiKeyClient } from "@better-auth/api-key/client";
import { deviceAuthorizationClient, organizationClient } from "better-auth/client/plugins";
import { Browser } from "../harness/browser.mjs";
import { data, onEveryEngine, refusal, signUp } from "../harness/suite.mjs";

const GRANT = "urn:ietf:params:oauth:grant-type:device_code";
const plugins = () => [apiKeyClient(), deviceAuthorizationClient(), organizationClient()];
const settings = {
  methods: { api_key_sessions: true, device_authorization: true },
  api_keys: { rate_limit_max: 3 },
  device: { interval: "1s" },
};

onEveryEngine(
  "keys and devices",
  (server) => {
    const withKey = (key) => fetch(`${server.baseURL}/api/auth/get-session`, { headers: { "x-api-key": key } });

    test("a key is made, used, counted, changed and deleted", async () => {
      const browser = new Browser(server, { plugins: plugins() });
      const { user } = await signUp(browser);
      const { apiKey } = browser.client;
      const made = await data(apiKey.create({ name: "ci", prefix: "acme_", expiresIn: 86_400 * 7, metadata: { team: 7 } }));
      assert.ok(made.key.startsWith("acme_") && made.createdAt instanceof Date);
      for (let use = 0; use < 3; use += 1) assert.equal((await (await withKey(made.key)).json()).user.id, user.id);
      const refused = await withKey(made.key);
      assert.equal(refused.status, 429);
      assert.equal((await refused.json()).code, "RATE_LIMITED");
      const { apiKeys, total } = await data(apiKey.list());
      assert.deepEqual([total, apiKeys[0].requestCount, apiKeys[0].metadata.team, "key" in apiKeys[0]], [1, 3, 7, false]);
      const off = await data(apiKey.update({ keyId: made.id, enabled: false }));
      assert.equal(off.enabled, false);
      assert.equal((await (await withKey(made.key)).json()).code, "KEY_DISABLED");
      assert.deepEqual(await data(apiKey.delete({ keyId: made.id })), { success: true });
      assert.deepEqual(await refusal(apiKey.get({ query: { id: made.id } })), { status: 404, code: "KEY_NOT_FOUND" });
      assert.deepEqual(await refusal(apiKey.create({ permissions: { files: ["read"] } })), { status: 400, code: "SERVER_ONLY_PROPERTY" });
    });

    test("an organization's key belongs to its owners", async () => {
      const browser = new Browser(server, { plugins: plugins() });
      await signUp(browser);
      const slug = `org-${Date.now()}`;
      const { id } = await data(browser.client.organization.create({ name: "Acme", slug }));
      const { apiKey } = browser.client;
      const made = await data(apiKey.create({ configId: "organization", organizationId: id, name: "robot" }));
      assert.equal(made.referenceId, id);
      const { apiKeys } = await data(apiKey.list({ query: { organizationId: id } }));
      assert.deepEqual(apiKeys.map((key) => key.id), [made.id]);
      assert.deepEqual(await data(apiKey.delete({ configId: "organization", keyId: made.id })), { success: true });
    });

    test("a device signs in by a code that a person approves", async () => {
      const [tv, person] = [new Browser(server, { plugins: plugins() }), new Browser(server, { plugins: plugins() })];
      const codes = await data(tv.client.device.code({ client_id: "tv", scope: "read" }));
      const ask = () => tv.client.device.token({ grant_type: GRANT, device_code: codes.device_code, client_id: "tv" });
      assert.equal((await ask()).error.error, "authorization_pending");
      assert.equal((await ask()).error.error, "slow_down");
      const { user } = await signUp(person);
      const seen = await data(person.client.device({ query: { user_code: codes.user_code } }));
      assert.deepEqual([seen.status, seen.client_id, seen.scope], ["pending", "tv", "read"]);
      assert.deepEqual(await data(person.client.device.approve({ userCode: codes.user_code })), { success: true });
      let granted = await ask();
      for (; granted.error?.error === "slow_down"; granted = await ask()) await new Promise((resolve) => setTimeout(resolve, 100));
      const headers = { authorization: `Bearer ${granted.data.access_token}` };
      const session = await (await fetch(`${server.baseURL}/api/auth/get-session`, { headers })).json();
      assert.equal(session.user.id, user.id);
      const denied = await data(tv.client.device.code({ client_id: "tv" }));
      await data(person.client.device({ query: { user_code: denied.user_code } }));
      await data(person.client.device.deny({ userCode: denied.user_code }));
      const answer = await tv.client.device.token({ grant_type: GRANT, device_code: denied.device_code, client_id: "tv" });
      assert.equal(answer.error.error, "access_denied");
    });
  },
  settings,
);
