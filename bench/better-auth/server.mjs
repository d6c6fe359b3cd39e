// Better Auth as its documentation sets it up for Node and SQLite, with e-mail and password and nothing else.
//
//   node server.mjs serve             answers on PORT; with WORKERS above 1 as so many processes (node:cluster)
//   node server.mjs make-schema       makes the tables in DB_PATH
//   node server.mjs hash PASSWORD     prints the password's hash as it is stored
//
// Told by the environment: DB_PATH, PORT, SECRET, WORKERS.
import cluster from "node:cluster";
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { hashPassword } from "better-auth/crypto";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import Database from "better-sqlite3";

const { DB_PATH, PORT, SECRET, WORKERS } = process.env;
const [command, argument] = process.argv.slice(2);

function options() {
  const database = new Database(DB_PATH);
  // `synchronous` stays as better-sqlite3 sets it for WAL: NORMAL, which asks less of the disk than FULL.
  database.pragma("journal_mode = WAL");
  return {
    appName: "Bench",
    baseURL: `http://127.0.0.1:${PORT}`,
    secret: SECRET,
    database,
    emailAndPassword: { enabled: true },
    session: { cookieCache: { enabled: false } },
    rateLimit: { enabled: false },
    telemetry: { enabled: false },
    logger: { level: "error" },
  };
}

function serve() {
  const workers = Number(WORKERS || 1);
  if (workers > 1 && cluster.isPrimary) {
    for (let worker = 0; worker < workers; worker++) cluster.fork();
    cluster.on("exit", () => process.exit(1));
    process.on("SIGTERM", () => process.exit(0));
    return;
  }
  const handler = toNodeHandler(betterAuth(options()));
  createServer(handler).listen(Number(PORT), "127.0.0.1");
}

if (command === "serve") {
  serve();
} else if (command === "make-schema") {
  const { runMigrations } = await getMigrations(options());
  await runMigrations();
} else if (command === "hash") {
  process.stdout.write(await hashPassword(argument));
} else {
  throw new Error("what to do? serve, make-schema or hash");
}
