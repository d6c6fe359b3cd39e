// Auth.js itself (the core of version 5) over the adapter, against the running binary.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { describe, test } from "node:test";
import { inspect } from "node:util";
import { Auth } from "@auth/core";
import { getToken } from "@auth/core/jwt";
import { tollgateAdapter } from "@tollgate/authjs";
import { forwarding } from "@tollgate/authjs/token";
import { freshAddress, onEveryEngine } from "../../../conformance/harness/suite.mjs";
import { freePort } from "../../../conformance/harness/tollgate.mjs";

const SECRET = "adapter-secret-0123456789abcdef0123456789";
const AUTH_SECRET = "auth-secret-0123456789abcdef0123456789abc";
const ORIGIN = "http://localhost:3000";
const SETTINGS = {
  trusted_origins: [ORIGIN],
  authjs: { adapter_secrets: [SECRET], jwt_secrets: [AUTH_SECRET], sign_in_url: `${ORIGIN}/login` },
};

/** An app with Auth.js and one browser in front of it. */
function app(server, strategy) {
  const mails = [];
  const email = {
    id: "email",
    type: "email",
    name: "Email",
    from: "app@example.test",
    maxAge: 600,
    sendVerificationRequest: ({ identifier, url }) => void mails.push({ identifier, url }),
  };
  const config = {
    adapter: tollgateAdapter({ url: server.baseURL, secret: SECRET }),
    providers: [email],
    session: { strategy },
    secret: AUTH_SECRET,
    basePath: "/auth",
    trustHost: true,
    logger: { error: (error) => mails.push({ error }), warn() {}, debug() {} },
  };
  const cookies = new Map();
  const cookieHeader = () => [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  const ask = async (path, form) => {
    const headers = { cookie: cookieHeader(), ...(form && { "content-type": "application/x-www-form-urlencoded" }) };
    const request = new Request(new URL(path, ORIGIN), { method: form ? "POST" : "GET", headers, body: form && new URLSearchParams(form) });
    const answer = await Auth(request, config);
    for (const line of answer.headers.getSetCookie()) {
      const [pair] = line.split(";");
      const [name, value] = [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)];
      if (value === "") cookies.delete(name);
      else cookies.set(name, value);
    }
    return answer;
  };
  return {
    ask,
    cookieHeader,
    mails,
    session: async () => (await ask("/auth/session")).json(),
    async signIn(address) {
      const { csrfToken } = await (await ask("/auth/csrf")).json();
      const sent = await ask("/auth/signin/email", { email: address, csrfToken });
      assert.match(sent.headers.get("location"), /verify-request/, inspect(mails));
      const mail = mails.at(-1);
      assert.equal(mail.identifier, address);
      return mail.url;
    },
  };
}

onEveryEngine(
  "Auth.js with sessions in the database",
  (server) => {
    test("a magic link signs in once, the session ends with sign-out, and the user is one of Tollgate's", async () => {
      const { ask, session, signIn } = app(server, "database");
      const address = freshAddress();
      const link = await signIn(address);
      const opened = await ask(link);
      assert.equal(opened.headers.get("location"), ORIGIN);
      const { user, expires } = await session();
      assert.equal(user.email, address);
      assert.ok(Date.parse(expires) > Date.now());
      const shown = await server.run("user", "show", address, "--json");
      assert.match(shown, new RegExp(address));
      const again = app(server, "database");
      assert.match((await again.ask(link)).headers.get("location"), /error=Verification/);
      assert.equal(await again.session(), null);
      const { csrfToken } = await (await ask("/auth/csrf")).json();
      await ask("/auth/signout", { csrfToken });
      assert.equal(await session(), null);
    });

    test("the adapter keeps what Auth.js gives it, to the millisecond, and nothing more", async () => {
      const adapter = tollgateAdapter({ url: server.baseURL, secret: SECRET });
      const email = freshAddress();
      const emailVerified = new Date(Math.floor(Date.now()) - 7);
      const made = await adapter.createUser({ id: crypto.randomUUID(), name: "2026-01-01T00:00:00.000Z", email, image: null, emailVerified });
      assert.deepEqual([made.emailVerified, made.name], [emailVerified, "2026-01-01T00:00:00.000Z"]);
      assert.deepEqual(await adapter.getUser(made.id), made);
      assert.deepEqual(await adapter.getUserByEmail(email), made);
      const account = { userId: made.id, type: "oidc", provider: "idp", providerAccountId: "a/b+c%d", access_token: "t", expires_at: 2_592_000_000 };
      assert.deepEqual(await adapter.linkAccount(account), account);
      assert.deepEqual(await adapter.getUserByAccount(account), made);
      assert.deepEqual(await adapter.getAccount("a/b+c%d", "idp"), account);
      await assert.rejects(adapter.linkAccount(account), { name: "AdapterUnavailable", code: "account_exists" });
      const expires = new Date(Date.now() + 12_345);
      const session = { sessionToken: crypto.randomUUID(), userId: made.id, expires };
      assert.deepEqual(await adapter.createSession(session), session);
      assert.deepEqual(await adapter.getSessionAndUser(session.sessionToken), { session, user: made });
      const token = { identifier: email, token: "f".repeat(64), expires };
      assert.deepEqual(await adapter.createVerificationToken(token), token);
      const takers = await Promise.all(Array.from({ length: 20 }, () => adapter.useVerificationToken(token)));
      assert.deepEqual(takers.filter(Boolean), [token]);
      assert.deepEqual(await adapter.listAuthenticatorsByUserId("nobody"), []);
      await assert.rejects(adapter.updateAuthenticatorCounter("none", 1), { status: 404 });
      assert.equal(await adapter.unlinkAccount({ provider: "idp", providerAccountId: "none" }), undefined);
      await adapter.deleteUser(made.id);
      for (const gone of [adapter.getUser(made.id), adapter.getSessionAndUser(session.sessionToken), adapter.getAccount("a/b+c%d", "idp")]) {
        assert.equal(await gone, null);
      }
      await assert.rejects(adapter.updateUser({ id: made.id, name: "x" }), { status: 404 });
    });
  },
  { ...SETTINGS, session: { strategy: "authjs-database" } },
);

onEveryEngine(
  "Auth.js with sessions in tokens",
  (server) => {
    test("the raw token that a route handler passes on is one that Tollgate judges", async (t) => {
      const { ask, signIn, cookieHeader, session } = app(server, "jwt");
      const address = freshAddress();
      await ask(await signIn(address));
      assert.equal((await session()).user.email, address);
      const { key } = JSON.parse(await server.run("key", "create", "app", "--json"));
      // The app's backend: it asks Tollgate about the token that it was sent.
      const backend = createServer(async (request, response) => {
        const token = request.headers.authorization?.replace(/^Bearer /, "") ?? "";
        const headers = { authorization: `Bearer ${key}`, "content-type": "application/json", "x-tollgate-token": token };
        const judged = await fetch(`${server.baseURL}/api/gate/authorize`, { method: "POST", headers, body: "{}" });
        const body = JSON.stringify({ path: request.url, ...(await judged.json()) });
        response.writeHead(judged.status, { "content-type": "application/json" }).end(body);
      });
      await new Promise((resolve) => backend.listen(0, "127.0.0.1", resolve));
      t.after(() => backend.close());
      const { GET } = forwarding({ getToken, backend: `http://127.0.0.1:${backend.address().port}/v1`, secret: AUTH_SECRET });
      const call = (cookie, path = ["tasks", "a b"]) =>
        GET(new Request(`${ORIGIN}/api/backend?q=1`, { headers: { cookie, connection: "close" } }), { params: Promise.resolve({ path }) });
      const answer = await (await call(cookieHeader())).json();
      assert.deepEqual([answer.path, answer.user?.email], ["/v1/tasks/a%20b?q=1", address]);
      assert.equal((await call("")).status, 401);
      assert.equal((await call("authjs.session-token=garbage")).status, 401);
      for (const path of [[".."], ["a/../b"], [""]]) assert.equal((await call(cookieHeader(), path)).status, 404);
      // Deleted users are out at once, although their token is still good.
      await server.run("user", "delete", address, "--yes");
      assert.equal((await call(cookieHeader())).status, 401);
    });
  },
  { ...SETTINGS, session: { strategy: "authjs-jwt" } },
);

describe("the adapter without a Tollgate that answers", () => {
  const answering = async (t, status, body) => {
    const server = createServer((_, response) => response.writeHead(status, { "content-type": "application/json" }).end(body));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => server.close());
    return tollgateAdapter({ url: `http://127.0.0.1:${server.address().port}`, secret: SECRET, timeout: 500 });
  };

  test("only Tollgate's own word means that there is nothing", async (t) => {
    const said = await answering(t, 404, '{"error_code":"not_found","message":"no","detail":null}');
    assert.equal(await said.getUserByEmail("a@example.test"), null);
    for (const [status, body] of [[404, "<html>"], [404, "{}"], [200, ""], [200, "null"], [502, "{}"], [301, "{}"]]) {
      const adapter = await answering(t, status, body);
      await assert.rejects(adapter.getUserByEmail("a@example.test"), { name: "AdapterUnavailable" });
    }
  });

  test("nobody there and a wrong secret are told, and the secret is not", async (t) => {
    const nobody = tollgateAdapter({ url: `http://127.0.0.1:${await freePort()}`, secret: SECRET });
    await assert.rejects(nobody.getUser("a"), /ECONNREFUSED/);
    const refusing = await answering(t, 401, '{"error_code":"invalid_adapter_secret","message":"no","detail":null}');
    const error = await refusing.getUser("a").catch((error) => error);
    assert.match(error.message, /adapter_secrets/);
    assert.doesNotMatch(inspect([error, refusing], { depth: 9, showHidden: true }), new RegExp(SECRET));
  });

  test("it is a plain object of functions, as Auth.js takes it apart", () => {
    const adapter = tollgateAdapter({ url: "http://localhost:8655", secret: SECRET });
    assert.equal(Object.keys(adapter).length, 19);
    assert.ok(Object.values(adapter).every((method) => typeof method === "function"));
    assert.throws(() => tollgateAdapter({ url: "http://localhost:8655", secret: "" }), TypeError);
  });
});
