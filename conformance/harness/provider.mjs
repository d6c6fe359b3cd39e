// The OpenID Connect provider of `provider-program.mjs`: started, stopped, and gone through by a person.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("provider-program.mjs", import.meta.url));
const STARTS_WITHIN_MS = 30_000;

export const CLIENT = { clientId: "tollgate-conformance", clientSecret: "conformance-client-secret-0123456789" };

/** A provider on this port that sends people back to `server`. Returns `stop()`. */
export async function startProvider(port, server) {
  const settings = { port, ...CLIENT, redirectURIs: [`${server.baseURL}/api/auth/callback/company`], afterSigningOut: [`${server.baseURL}/bye`] };
  const child = spawn(process.execPath, [PROGRAM, JSON.stringify(settings)], { stdio: ["pipe", "pipe", "pipe"] });
  let written = "";
  const ended = new Promise((resolve) => child.once("exit", resolve));
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the provider does not listen:\n${written}`)), STARTS_WITHIN_MS);
    const read = (chunk) => {
      written += chunk;
      if (!written.includes("ready\n")) return;
      clearTimeout(timer);
      resolve();
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    ended.then((code) => {
      clearTimeout(timer);
      reject(new Error(`the provider ended (${code}):\n${written}`));
    });
  });
  return {
    async stop() {
      child.stdin.end();
      await ended;
    },
  };
}

/** Goes to the provider as this person, agrees to everything, and returns where the provider sends the browser back to. */
export async function goThere(server, address, person) {
  const cookies = new Map();
  let url = new URL(address);
  url.searchParams.set("login_hint", person);
  for (let hop = 0; hop < 12; hop++) {
    if (url.origin === server.baseURL) return url.href;
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(url, { redirect: "manual", headers: cookie ? { cookie } : {} });
    for (const line of answer.headers.getSetCookie()) {
      const [name, value] = line.split(";")[0].split(/=(.*)/s);
      cookies.set(name, value);
    }
    const location = answer.headers.get("location");
    if (!location) throw new Error(`the provider stops at ${url.pathname}: ${answer.status} ${await answer.text()}`);
    url = new URL(location, url);
  }
  throw new Error("the provider sends nobody back");
}
