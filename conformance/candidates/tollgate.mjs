// Tollgate as the differential runner wants a server: started by `start`, with ways to promote a user and to move a
// session's stored times.
import { freshDatabase } from "../harness/postgres.mjs";
import { startTollgate } from "../harness/tollgate.mjs";

/** On PostgreSQL when this names a server where databases may be made, else in the file that the runner names. */
const postgres = process.env.TOLLGATE_CONFORMANCE_DATABASE_URL;
const SESSION_COLUMNS = { expiresAt: "expires_at", createdAt: "created_at" };
/** Rows that are found by what stands in them, with their columns. */
const PLAIN = { invitation: { table: "invitations", id: "id", email: "email", expiresAt: "expires_at", createdAt: "created_at" } };

export async function start({ port, smtpPort, oidc, dbPath, env }) {
  const database = postgres ? await freshDatabase(postgres) : sqlite(dbPath);
  const tollgate = await startTollgate(settings({ port, smtpPort, oidc, databaseURL: database.url, env }));
  const baseURL = `http://localhost:${port}`;
  return {
    baseURL,
    async stop() {
      await tollgate.stop();
      await database.drop();
    },
    promote: (email, role) => tollgate.run("user", "promote", email, "--role", role),
    async shift({ model, field, where, seconds }) {
      const plain = PLAIN[model];
      if (plain) {
        const [[name, value]] = Object.entries(where);
        const [column, found] = [plain[field], plain[name]];
        if (!column || !found) throw new Error(`cannot shift ${model}.${field} by ${name}`);
        const is = typeof value === "object" ? "LIKE" : "=";
        const values = [seconds * 1000, value.like ?? value];
        return database.query(`UPDATE ${plain.table} SET ${column} = ${column} + $1 WHERE ${found} ${is} $2`, values);
      }
      const column = SESSION_COLUMNS[field];
      if (model !== "session" || !column || !where.token) throw new Error(`cannot shift ${model}.${field} by ${Object.keys(where)}`);
      // Tokens are stored hashed: the server itself says which session this one opens.
      const headers = { authorization: `Bearer ${where.token}` };
      const answer = await fetch(`${baseURL}/api/auth/get-session?disableRefresh=true`, { headers });
      const id = (await answer.json())?.session.id;
      if (!id) throw new Error("the token opens no session");
      await database.query(`UPDATE sessions SET ${column} = ${column} + $1 WHERE id = $2`, [seconds * 1000, id]);
    },
  };
}

function settings({ port, smtpPort, oidc, databaseURL, env }) {
  const on = (name) => env[name] === "1";
  return {
    base_url: `${on("SECURE_BASE") ? "https" : "http"}://localhost:${port}`,
    listen: `127.0.0.1:${port}`,
    app_name: "Differential",
    secrets: [env.SECRET],
    database_url: databaseURL,
    trusted_origins: env.TRUSTED_ORIGINS.split(","),
    // The runner's own address counts as a proxy's, so that a request without X-Forwarded-For has no address, as in the
    // reference.
    trusted_proxies: ["127.0.0.0/8", "::1/128"],
    session: { defer_refresh: on("DEFER_REFRESH") },
    email_password: {
      require_verification: on("REQUIRE_EMAIL_VERIFICATION"),
      auto_sign_in: !on("NO_AUTO_SIGN_IN"),
      auto_sign_in_after_verification: on("REQUIRE_EMAIL_VERIFICATION"),
      revoke_sessions_on_reset: on("REVOKE_ON_RESET"),
      notify_taken: false,
    },
    accounts: { change_email: true, delete_user: true, delete_needs_mail: on("DELETE_NEEDS_MAIL") },
    methods: {
      username: true, magic_link: true, magic_link_confirm: false, email_code: true, anonymous: true, one_time_token: true,
      jwt: true, device_authorization: true, api_key_sessions: true,
    },
    device: { interval: "1s" },
    providers: providers(oidc),
    mail: { smtp_url: `smtp://127.0.0.1:${smtpPort}`, from: "Differential <no-reply@example.test>" },
    rate_limit: { enabled: on("RATE_LIMIT") },
  };
}

/** Four names for one OpenID Connect provider, each with other terms, and a plain one beside it. */
function providers({ issuer, clientId, clientSecret }) {
  const client = { client_id: clientId, client_secret: clientSecret };
  const scopes = ["openid", "email", "profile", "offline_access"];
  const discovered = { kind: "oidc", issuer, ...client, scopes, prompt: "consent" };
  return {
    oidc: discovered,
    trusted: { ...discovered, trusted: true },
    nosignup: { ...discovered, sign_up: false },
    implicit: { ...discovered, implicit_sign_up: false },
    gitlab: { issuer: `${issuer}/gitlab`, ...client },
  };
}

function sqlite(file) {
  return {
    url: `sqlite://${file}`,
    async query(text, values) {
      const db = await openSqlite(file);
      try {
        db.prepare(text.replaceAll(/\$\d/g, "?")).run(...values);
      } finally {
        db.close();
      }
    },
    drop() {},
  };
}

/** Node's own SQLite where there is one; before Node 22.5 the package, whose native part has to be built (see README). */
async function openSqlite(file) {
  const { DatabaseSync } = await import("node:sqlite").catch(() => ({}));
  if (DatabaseSync) {
    const db = new DatabaseSync(file);
    db.exec("PRAGMA busy_timeout = 5000");
    return db;
  }
  const { default: Database } = await import("better-sqlite3");
  return new Database(file, { timeout: 5000 });
}
