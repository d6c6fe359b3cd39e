// Starts the real binary with a configuration file of its own, and ends it.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const STARTS_WITHIN_MS = 30_000;
const STOPS_WITHIN_MS = 20_000;

/** The binary under test: named by the environment, else the newest way it may have been built. */
export function binary() {
  const named = process.env.TOLLGATE_BINARY ?? process.env.TOLLGATE_BIN;
  const built = ["release", "debug"].map((profile) => path.join(repository, "target", profile, "tollgate"));
  const found = named ?? built.find((file) => existsSync(file));
  if (!found) throw new Error("there is no tollgate binary: run `cargo build`, or set TOLLGATE_BINARY");
  return found;
}

export const freePort = () =>
  new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });

/** TOML of `{ key: value, section: { key: value } }`; JSON's strings, numbers, flags and lists are TOML's too. */
export function toml(settings) {
  const isTable = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const inline = (table) => Object.entries(table).map(([key, value]) => `${JSON.stringify(key)} = ${spelled(value)}`);
  const spelled = (value) => (isTable(value) ? `{ ${inline(value).join(", ")} }` : JSON.stringify(value));
  const lines = (entries) => entries.map(([key, value]) => `${key} = ${spelled(value)}\n`).join("");
  const entries = Object.entries(settings);
  const sections = entries.filter(([, value]) => isTable(value));
  const plain = entries.filter(([, value]) => !isTable(value));
  return lines(plain) + sections.map(([name, values]) => `\n[${name}]\n${lines(Object.entries(values))}`).join("");
}

/** Only what the program needs: settings of the shell that runs the tests must not reach it. */
function environment() {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("TOLLGATE_"));
  return Object.fromEntries(kept);
}

/**
 * `tollgate serve` with these settings. Returns `stop()`, `run(...arguments)` for the program's other commands on the
 * same configuration, and `log()`, what the server has written so far.
 */
export async function startTollgate(settings) {
  const folder = await mkdtemp(path.join(os.tmpdir(), "tollgate-conformance-"));
  const config = path.join(folder, "tollgate.toml");
  await writeFile(config, toml(settings));
  const begin = (args) => spawn(binary(), ["--config", config, ...args], { cwd: folder, stdio: ["ignore", "pipe", "pipe"], env: environment() });
  const server = begin(["serve"]);
  let written = "";
  const ended = new Promise((resolve) => server.once("exit", (code, signal) => resolve(code ?? signal)));
  const clean = () => rm(folder, { recursive: true, force: true });
  try {
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`tollgate does not listen after ${STARTS_WITHIN_MS} ms:\n${written}`)), STARTS_WITHIN_MS);
      const failed = (why) => {
        clearTimeout(timer);
        reject(new Error(`tollgate ended (${why}) before it listened:\n${written}`));
      };
      server.once("error", failed);
      ended.then(failed);
      const read = (chunk) => {
        written += chunk;
        if (!written.includes("listening on http://")) return;
        clearTimeout(timer);
        resolve();
      };
      server.stdout.on("data", read);
      server.stderr.on("data", read);
    });
  } catch (error) {
    server.kill("SIGKILL");
    await clean();
    throw error;
  }
  return {
    log: () => written,
    run: (...args) =>
      new Promise((resolve, reject) => {
        const child = begin(args);
        let out = "";
        child.stdout.on("data", (chunk) => (out += chunk));
        child.stderr.on("data", (chunk) => (out += chunk));
        child.once("error", reject);
        child.once("exit", (code) => (code === 0 ? resolve(out) : reject(new Error(`tollgate ${args.join(" ")} ended with ${code}: ${out}`))));
      }),
    async stop() {
      server.kill("SIGTERM");
      const timer = setTimeout(() => server.kill("SIGKILL"), STOPS_WITHIN_MS);
      await ended;
      clearTimeout(timer);
      await clean();
    },
  };
}
