// The Express guide's code with real Express: against the running binary, and against servers that say what none would.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { Browser } from "../harness/browser.mjs";
import { blocks, filesOf } from "../harness/guide.mjs";
import { onEveryEngine, signUp } from "../harness/suite.mjs";
import { freePort } from "../harness/tollgate.mjs";

const GUIDE = "express.md";

/** The guide's app as a process of its own. */
async function startApp(environment) {
  const files = await filesOf(GUIDE);
  const env = { ...process.env, PORT: "0", ...environment };
  const app = spawn(process.execPath, ["app.mjs"], { cwd: files.folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let written = "";
  const port = await new Promise((resolve, reject) => {
    const read = (chunk) => {
      written += chunk;
      const found = /listening on (\d+)/.exec(written);
      if (found) resolve(found[1]);
    };
    app.stdout.on("data", read);
    app.stderr.on("data", read);
    app.once("exit", () => reject(new Error(`the app ended:\n${written}`)));
  });
  return {
    log: () => written,
    async ask(method, path, headers = {}) {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, headers });
      return { status: answer.status, headers: answer.headers, body: await answer.json() };
    },
    async stop() {
      app.removeAllListeners("exit");
      app.kill();
      await once(app, "exit");
      await files.drop();
    },
  };
}

/** The guide's settings, as the suite merges them. */
async function guideSettings() {
  const [toml] = await blocks(GUIDE, "toml");
  assert.match(toml, /^trusted_proxies = /);
  assert.match(toml, /^features = \{ "image\.generate" = 5 \}$/m);
  assert.match(toml, /^allowances = \{ sketch = 2 \}$/m);
}

const settings = { trusted_proxies: ["127.0.0.0/8", "::1/128"] };

onEveryEngine(
  "the Express guide",
  (server) => {
    let app;
    before(async () => {
      await guideSettings();
      const key = JSON.parse(await server.run("key", "create", "express", "--scopes", "gate,credits:write", "--json")).key;
      app = await startApp({ TOLLGATE_URL: server.baseURL, TOLLGATE_KEY: key });
    });
    after(() => app.stop());

    async function person(credits = 0) {
      const browser = new Browser(server);
      const { user } = await signUp(browser);
      if (credits) await server.run("credits", "grant", user.id, String(credits), "--reason", "tests");
      return { browser, user, headers: { cookie: browser.cookieHeader() } };
    }
    const left = async (user) => {
      const told = JSON.parse(await server.run("credits", "balance", user.id, "--json"));
      return [told.balance, told.held];
    };

    test("knows who is signed in, until they sign out", async () => {
      const { browser, user, headers } = await person();
      assert.deepEqual((await app.ask("GET", "/me", headers)).body, { id: user.id, email: user.email });
      assert.equal((await app.ask("GET", "/me")).status, 401);
      await browser.client.signOut();
      const { status, body } = await app.ask("GET", "/me", headers);
      assert.deepEqual([status, body], [401, { detail: null, error_code: "unauthenticated", message: "sign in first" }]);
    });

    test("refuses other users' ids and lacking roles", async () => {
      const { user, headers } = await person();
      assert.equal((await app.ask("GET", `/users/${user.id}/pictures`, headers)).status, 200);
      const { status, body } = await app.ask("GET", "/users/somebody/pictures", headers);
      assert.deepEqual([status, body.error_code], [403, "user_mismatch"]);
      assert.equal((await app.ask("GET", "/numbers", headers)).status, 403);
      await server.run("user", "promote", user.email, "--role", "user,admin");
      assert.deepEqual((await app.ask("GET", "/numbers", headers)).body, { for: user.email });
    });

    test("charges once, and says what is missing", async () => {
      const { user, headers } = await person(11);
      assert.deepEqual((await app.ask("POST", "/pictures", headers)).body, { creditsLeft: 6 });
      for (let time = 0; time < 3; time += 1) {
        assert.deepEqual((await app.ask("POST", "/prints/17", headers)).body, { creditsLeft: 3 });
      }
      const { status, body } = await app.ask("POST", "/pictures", headers);
      assert.deepEqual([status, body.error_code, body.available, body.required], [402, "insufficient_credits", 3, 5]);
      assert.deepEqual(await left(user), [3, 0]);
    });

    test("settles what work cost, and releases what failed", async () => {
      const { user, headers } = await person(20);
      assert.equal((await app.ask("POST", "/stories?about=a+fox", headers)).status, 200);
      assert.deepEqual(await left(user), [17, 0]);
      assert.equal((await app.ask("POST", "/stories?about=nothing", headers)).status, 409);
      assert.deepEqual(await left(user), [17, 0]);
    });

    test("lets visitors in as often as they may", async () => {
      const answer = await fetch(`${server.baseURL}/api/guest`, { method: "POST", headers: { origin: server.baseURL } });
      const headers = { cookie: answer.headers.getSetCookie()[0].split(";")[0], "x-forwarded-for": "198.51.100.7" };
      const said = [];
      for (let time = 0; time < 3; time += 1) said.push(await app.ask("POST", "/sketches", headers));
      assert.deepEqual(said.map(({ status }) => status), [200, 200, 429]);
      assert.deepEqual(said[0].body, { kind: "guest", id: (await answer.json()).guest_id });
      assert.equal(said[2].body.error_code, "guest_limit_reached");
      assert.ok(Number(said[2].headers.get("retry-after")) > 0);
      assert.equal((await app.ask("POST", "/sketches")).status, 401);
      assert.equal((await app.ask("POST", "/sketches", (await person()).headers)).body.kind, "user");
    });

    test("owns up to a wrong service key", async () => {
      const stranger = await startApp({ TOLLGATE_URL: server.baseURL, TOLLGATE_KEY: "tg_sk_wrong" });
      const { status, body } = await stranger.ask("POST", "/pictures", (await person(9)).headers);
      assert.deepEqual([status, body.error_code], [500, "internal"]);
      await stranger.stop();
      assert.match(stranger.log(), /refuses the service key/);
    });
  },
  { ...settings, credits: { features: { "image.generate": 5 } }, guest: { allowances: { sketch: 2 } } },
);

onEveryEngine(
  "the Express guide and sessions in use",
  (server) => {
    test("an extended session reaches the browser, with a refusal, too", async () => {
      const key = JSON.parse(await server.run("key", "create", "express", "--json")).key;
      const app = await startApp({ TOLLGATE_URL: server.baseURL, TOLLGATE_KEY: key });
      const browser = new Browser(server);
      await signUp(browser);
      for (const [method, path, status] of [["GET", "/me", 200], ["POST", "/pictures", 402]]) {
        const answer = await app.ask(method, path, { cookie: browser.cookieHeader() });
        assert.equal(answer.status, status);
        assert.equal(answer.headers.get("cache-control"), "no-store");
        assert.match(answer.headers.getSetCookie().join("\n"), /^better-auth\.session_token=[^;]+; Max-Age=604800;/m);
      }
      await app.stop();
    });
  },
  { ...settings, session: { update_age: "0s" }, credits: { features: { "image.generate": 5 } } },
);

describe("the Express guide and a Tollgate that cannot be understood", () => {
  let respond;
  const stub = createServer((request, response) => respond(request, response));
  let app;
  before(async () => {
    stub.listen(0, "127.0.0.1");
    await once(stub, "listening");
    app = await startApp({ TOLLGATE_URL: `http://127.0.0.1:${stub.address().port}`, TOLLGATE_KEY: "tg_sk_x" });
  });
  after(async () => {
    await app.stop();
    stub.closeAllConnections();
    stub.close();
  });

  const say = (status, body, headers = {}) => (_, response) =>
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(body);
  const cases = {
    HTML: say(200, "<html>null</html>"),
    "an empty body": say(200, ""),
    "{}": say(200, "{}"),
    "truncated JSON": say(200, '{"user":{"id":"u1"'),
    "a redirect": say(302, "null", { location: "/" }),
    "401 that is not Tollgate's": say(401, '{"error":"unauthorized"}'),
    "401 in HTML": say(401, "<h1>401</h1>"),
    "402 that is not Tollgate's": say(402, "{}"),
    500: say(500, "null"),
    503: say(503, '{"error_code":"unavailable","message":"x","detail":null}'),
    "a connection that is cut": (request) => request.socket.destroy(),
    "an answer that is cut": (request, response) => response.writeHead(200, { "content-length": 99 }).write("null", () => request.socket.destroy()),
    "silence": () => {},
    "an answer without end": (_, response) => void response.writeHead(200).write(" "),
  };
  for (const [name, answer] of Object.entries(cases)) {
    test(`${name} is 503`, async () => {
      respond = answer;
      const asked = [["GET", "/me"], ["POST", "/pictures"], ["POST", "/sketches"]];
      const answers = await Promise.all(asked.map(([method, path]) => app.ask(method, path, { cookie: "a=b" })));
      for (const { status, headers, body } of answers) {
        assert.deepEqual([status, body.error_code, headers.get("retry-after")], [503, "unavailable", "1"]);
      }
    });
  }

  test("null is nobody, and only the cookie goes out, as it came", async () => {
    let seen;
    respond = (request, response) => {
      seen = request;
      say(200, "null")(request, response);
    };
    const headers = { cookie: 'a="1"; b=%zz; c=1; c=2', authorization: "Bearer own", "x-forwarded-for": "203.0.113.1" };
    assert.equal((await app.ask("GET", "/me", headers)).status, 401);
    assert.equal(seen.headers.cookie, headers.cookie);
    assert.equal(seen.headers.authorization, undefined);
    assert.equal(seen.headers["x-forwarded-for"], undefined);
  });

  test("a service that is down is 503", async () => {
    const down = await startApp({ TOLLGATE_URL: `http://127.0.0.1:${await freePort()}`, TOLLGATE_KEY: "tg_sk_x" });
    assert.equal((await down.ask("GET", "/me", { cookie: "a=b" })).status, 503);
    await down.stop();
  });
});
