// Starts `tollgate dev` in a folder of its own, and ends it.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { binary } from "./tollgate.mjs";

const STARTS_WITHIN_MS = 30_000;

/** What it announced (`base_url`, `till`, `users`, `password`, `key`), and `stop()`. */
export async function startDev() {
  const folder = await mkdtemp(path.join(os.tmpdir(), "tollgate-dev-"));
  const kept = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TOLLGATE_")));
  const child = spawn(binary(), ["dev", "--listen", "127.0.0.1:0", "--json"], { cwd: folder, stdio: ["ignore", "pipe", "inherit"], env: kept });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const announced = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`dev says nothing after ${STARTS_WITHIN_MS} ms`)), STARTS_WITHIN_MS);
    ended.then((code) => reject(new Error(`dev ended with ${code}`)));
    createInterface({ input: child.stdout }).once("line", (line) => {
      clearTimeout(timer);
      resolve(JSON.parse(line));
    });
  });
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  return { ...announced, stop };
}
