// Starts the till, Stripe's stand-in, with an endpoint that keeps the events it sends.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import Stripe from "stripe";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const STARTS_WITHIN_MS = 30_000;

export const SECRET = "whsec_conformance";

function binary() {
  const built = ["release", "debug"].map((profile) => path.join(repository, "target", profile, "till"));
  const found = process.env.TILL_BIN ?? built.find((file) => existsSync(file));
  if (!found) throw new Error("there is no till binary: run `cargo build --bin till`, or set TILL_BIN");
  return found;
}

/** Keeps each delivery as it came: the raw body and the signature. */
async function listen() {
  const arrivals = [];
  const server = createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      arrivals.push({ body: Buffer.concat(chunks), signature: request.headers["stripe-signature"] });
      response.end("{}");
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => new Promise((resolve) => server.close(resolve));
  return { arrivals, url: `http://127.0.0.1:${server.address().port}/webhook`, close };
}

/**
 * A till with these arguments. Returns the official SDK pointed at it (`stripe`), what arrived at its endpoint
 * (`arrivals`), `act(name, wishes)` for its buttons, `raw(path)` for its answers as they are, and `stop()`.
 */
export async function startTill(...args) {
  const endpoint = await listen();
  const child = spawn(binary(), ["--webhook", endpoint.url, "--secret", SECRET, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const { url, key } = await firstLine(child);
  const address = new URL(url);
  const stripe = new Stripe(key, { host: address.hostname, port: address.port, protocol: "http", maxNetworkRetries: 2 });
  const act = async (name, wishes = {}) => {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`${url}/_till/actions/${name}`, { method: "POST", headers, body: JSON.stringify(wishes) });
    const value = await answer.json();
    if (!answer.ok) throw new Error(`${name}: ${value.error.message}`);
    return value;
  };
  const raw = async (where) => {
    const answer = await fetch(`${url}${where}`, { headers: { authorization: `Bearer ${key}` } });
    if (!answer.ok) throw new Error(`${where}: ${await answer.text()}`);
    return answer.json();
  };
  const quiet = async () => {
    while (!(await raw("/_till/state")).quiet) await new Promise((resolve) => setImmediate(resolve));
  };
  const stop = async () => {
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.stdin.end();
    await ended;
    await endpoint.close();
  };
  return { url, key, stripe, act, raw, quiet, stop, arrivals: endpoint.arrivals };
}

function firstLine(child) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the till says nothing after ${STARTS_WITHIN_MS} ms`)), STARTS_WITHIN_MS);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the till ended with ${code}`)));
    createInterface({ input: child.stdout }).once("line", (line) => {
      clearTimeout(timer);
      resolve(JSON.parse(line));
    });
  });
}
