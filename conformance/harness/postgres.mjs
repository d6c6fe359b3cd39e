// A database of its own on a running PostgreSQL, gone when dropped.
import { randomBytes } from "node:crypto";
import pg from "pg";

/** A server where databases may be made: `postgres://USER@HOST:PORT/NAME`. Unset: SQLite alone is tested. */
export const serverURL = process.env.TOLLGATE_CONFORMANCE_DATABASE_URL || process.env.TOLLGATE_TEST_POSTGRES;

async function once(connectionString, work) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export async function freshDatabase(server) {
  const name = `conformance_${randomBytes(6).toString("hex")}`;
  const url = new URL(server);
  url.pathname = `/${name}`;
  // Not from template1: somebody may be connected to it.
  await once(server, (client) => client.query(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING 'UTF8'`));
  return {
    url: url.href,
    query: (text, values) => once(url.href, (client) => client.query(text, values)),
    drop: () => once(server, (client) => client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)),
  };
}
