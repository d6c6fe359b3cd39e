// An app's small backend: who is it, may it pass, what does it cost? It answers as Tollgate's gate does.
//
//   DB_PATH       asks Better Auth who it is, and takes credits from accounts of its own (SQLite)
//   SERVICE_KEY   asks Tollgate all of it in one call
//
// Told by the environment: PORT, AUTH_URL and one of the two above.
import { Agent, createServer, request } from "node:http";
import Database from "better-sqlite3";

const { PORT, AUTH_URL, DB_PATH, SERVICE_KEY } = process.env;
const url = new URL(AUTH_URL);
const connections = new Agent({ keepAlive: true, maxSockets: 64 });

function call(method, path, headers, body) {
  return new Promise((resolve, reject) => {
    const options = { host: url.hostname, port: url.port, agent: connections, method, path, headers };
    const asked = request(options, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => resolve({ status: answer.statusCode, text: Buffer.concat(chunks).toString() }));
      answer.on("error", reject);
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

const checkSession = (cookie) => call("GET", "/api/auth/get-session", { cookie: cookie ?? "" });

/** A guarded update and an entry in one transaction, as durable as Tollgate's. */
function openAccounts() {
  const database = new Database(DB_PATH);
  database.pragma("journal_mode = WAL");
  database.pragma("synchronous = FULL");
  database.pragma("cache_size = -16384");
  database.pragma("wal_autocheckpoint = 8000");
  const take = database.prepare(
    "UPDATE account SET balance = balance - ? WHERE id = ? AND balance >= ? RETURNING balance",
  );
  const note = database.prepare(
    "INSERT INTO entry (account_id, amount, balance_after, created_at, idempotency_key) VALUES (?, ?, ?, ?, ?)",
  );
  const debit = database.transaction((owner, amount, key) => {
    const taken = take.get(amount, owner, amount);
    if (!taken) return null;
    const { balance } = taken;
    const { lastInsertRowid } = note.run(owner, -amount, balance, Date.now(), key);
    const id = String(lastInsertRowid);
    return { entry_id: id, amount, unit: "credits", balance, available: balance, replayed: false };
  });
  return (owner, amount, key) => debit.immediate(owner, amount, key);
}

function withOwnCredits() {
  const debit = openAccounts();
  return async (headers, body) => {
    const { status, text } = await checkSession(headers.cookie);
    if (status !== 200) return [503, { error_code: "unavailable" }];
    const found = JSON.parse(text);
    if (!found) return [401, { error_code: "unauthenticated" }];
    const { user, session } = found;
    const asked = JSON.parse(body).charge;
    const charge = asked ? debit(user.id, asked.amount, headers["idempotency-key"]) : null;
    if (asked && !charge) return [402, { error_code: "insufficient_credits" }];
    return [
      200,
      {
        subject: { kind: "user", id: user.id },
        user: { user_id: user.id, email: user.email, name: user.name },
        session: { expires_at: session.expiresAt },
        charge,
        guest: null,
      },
    ];
  };
}

const atTheGate = async (headers, body) => {
  const sent = {
    authorization: `Bearer ${SERVICE_KEY}`,
    cookie: headers.cookie ?? "",
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
  };
  if (headers["idempotency-key"]) sent["idempotency-key"] = headers["idempotency-key"];
  const { status, text } = await call("POST", "/api/gate/authorize", sent, body);
  return [status, JSON.parse(text)];
};

const authorize = DB_PATH ? withOwnCredits() : atTheGate;

async function answer(incoming) {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  return authorize(incoming.headers, Buffer.concat(chunks).toString());
}

createServer((incoming, outgoing) => {
  const send = ([status, value]) => {
    const text = JSON.stringify(value);
    outgoing.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    outgoing.end(text);
  };
  answer(incoming).then(send, (error) => send([500, { error_code: "internal", message: String(error) }]));
}).listen(Number(PORT), "127.0.0.1");
