// One set of tests on every engine there is: SQLite always, PostgreSQL when the environment names one.
import { after, before, describe } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { openMailbox } from "./mailbox.mjs";
import { freshDatabase, serverURL } from "./postgres.mjs";
import { freePort, startTollgate } from "./tollgate.mjs";

export const PASSWORD = "correct horse battery staple";
/** An app on another site than the server. */
export const APP_ORIGIN = "https://app.example";

/** `tests` gets a server (`baseURL`, `mailbox`, `log()`, `run(…)`) which is running when its tests run. */
export function onEveryEngine(name, tests, settings = {}) {
  const engines = serverURL ? ["SQLite", "PostgreSQL"] : ["SQLite"];
  for (const engine of engines) {
    describe(`${name} (${engine})`, () => {
      const server = {};
      const undo = [];
      before(async () => {
        const database = engine === "SQLite" ? await freshFile() : await freshDatabase(serverURL);
        undo.unshift(() => database.drop());
        server.mailbox = await openMailbox();
        undo.unshift(() => server.mailbox.close());
        const port = await freePort();
        server.baseURL = `http://localhost:${port}`;
        const tollgate = await startTollgate(merge(defaults(server, port, database.url), settings));
        undo.unshift(() => tollgate.stop());
        server.log = tollgate.log;
        server.run = tollgate.run;
      });
      after(async () => {
        for (const step of undo) await step();
      });
      tests(server);
    });
  }
}

function defaults(server, port, databaseURL) {
  return {
    base_url: server.baseURL,
    listen: `127.0.0.1:${port}`,
    app_name: "Conformance",
    secrets: ["conformance-7b1f4c9e2d8a5036-secret"],
    database_url: databaseURL,
    trusted_origins: [APP_ORIGIN],
    accounts: { change_email: true, delete_user: true },
    mail: { smtp_url: `smtp://127.0.0.1:${server.mailbox.port}`, from: "Conformance <no-reply@example.test>" },
    rate_limit: { enabled: false },
  };
}

/** Settings over settings; sections are merged. */
function merge(below, above) {
  const isSection = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const merged = { ...below };
  for (const [key, value] of Object.entries(above)) {
    merged[key] = isSection(value) && isSection(below[key]) ? { ...below[key], ...value } : value;
  }
  return merged;
}

async function freshFile() {
  const folder = await mkdtemp(path.join(os.tmpdir(), "tollgate-database-"));
  return { url: `sqlite://${path.join(folder, "tollgate.db")}`, drop: () => rm(folder, { recursive: true, force: true }) };
}

let count = 0;
/** An address that no other test uses. */
export const freshAddress = () => `person-${process.pid}-${(count += 1)}@example.test`;

/** The client's answer, which must be a success. */
export async function data(call) {
  const { data, error } = await call;
  if (error) throw new Error(`the client got an error: ${JSON.stringify(error)}`);
  return data;
}

/** The client's error, which must be one. */
export async function refusal(call) {
  const { data, error } = await call;
  if (!error) throw new Error(`the client got an answer instead of an error: ${JSON.stringify(data)}`);
  return { status: error.status, code: error.code };
}

export async function signUp(browser, email = freshAddress(), rest = {}) {
  const { user, token } = await data(browser.client.signUp.email({ email, password: PASSWORD, name: "Test Person", ...rest }));
  return { email, user, token };
}

export const signIn = (browser, email, rest = {}) => data(browser.client.signIn.email({ email, password: PASSWORD, ...rest }));
