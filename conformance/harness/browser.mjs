// A browser with the official client in a page: it keeps cookies, names its origin, and obeys CORS as browsers do.
import { createAuthClient } from "better-auth/client";
import { lastLoginMethodClient, multiSessionClient } from "better-auth/client/plugins";

/** What a page may always read of an answer from another origin (Fetch standard: CORS-safelisted). */
const READABLE = ["cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma"];
const SIMPLE_TYPES = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

export class Browser {
  #cookies = new Map();
  /** Preflights sent, as `METHOD /path`. */
  preflights = [];

  /** A browser showing a page of `origin`, by default one of the server's own, whose client has these plugins besides. */
  constructor(server, { origin = server.baseURL, plugins = [] } = {}) {
    this.baseURL = server.baseURL;
    this.origin = origin;
    this.client = createAuthClient({
      baseURL: this.baseURL,
      fetchOptions: { customFetchImpl: (input, init) => this.fetch(input, init) },
      plugins: [multiSessionClient(), lastLoginMethodClient(), ...plugins],
    });
  }

  /** As a script's `fetch`, with `redirect: "manual"` showing the redirect itself. */
  async fetch(input, init = {}) {
    const url = new URL(input instanceof Request ? input.url : input, this.baseURL);
    const method = (init.method ?? "GET").toUpperCase();
    const headers = new Headers(init.headers);
    const elsewhere = url.origin !== this.origin;
    if (elsewhere) await this.#preflight(url, method, headers);
    const withCookies = !elsewhere || init.credentials === "include";
    if (withCookies && this.#cookies.size > 0) headers.set("cookie", this.cookieHeader());
    if (elsewhere || method !== "GET") headers.set("origin", this.origin);
    const answer = await fetch(url, { method, headers, body: init.body, redirect: "manual" });
    if (withCookies) this.#keep(answer.headers.getSetCookie());
    return elsewhere ? this.#admit(answer, withCookies) : answer;
  }

  /** Opens an address as a person does, by a link in a mail: no origin, cookies sent, redirects shown. */
  visit(address) {
    const headers = this.#cookies.size > 0 ? { cookie: this.cookieHeader() } : {};
    return fetch(address, { headers, redirect: "manual" }).then((answer) => {
      this.#keep(answer.headers.getSetCookie());
      return answer;
    });
  }

  cookie(name) {
    return this.#cookies.get(name);
  }

  cookieNames() {
    return [...this.#cookies.keys()].sort();
  }

  cookieHeader() {
    return [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  }

  #keep(lines) {
    for (const line of lines) {
      const [pair, ...attributes] = line.split(";").map((part) => part.trim());
      const at = pair.indexOf("=");
      const name = pair.slice(0, at);
      if (attributes.some((attribute) => /^max-age=0$/i.test(attribute))) this.#cookies.delete(name);
      else this.#cookies.set(name, pair.slice(at + 1));
    }
  }

  async #preflight(url, method, headers) {
    const unsafe = [...headers.keys()].filter((name) => !["accept", "accept-language", "content-language"].includes(name));
    const asked = unsafe.filter((name) => name !== "content-type" || !SIMPLE_TYPES.includes(headers.get(name)));
    if (["GET", "HEAD", "POST"].includes(method) && asked.length === 0) return;
    this.preflights.push(`${method} ${url.pathname}`);
    const answer = await fetch(url, {
      method: "OPTIONS",
      headers: {
        origin: this.origin,
        "access-control-request-method": method,
        ...(asked.length && { "access-control-request-headers": asked.sort().join(",") }),
      },
    });
    this.#checkOrigin(answer, true);
    const list = (name) => (answer.headers.get(name) ?? "").toLowerCase().split(",").map((part) => part.trim());
    const simple = ["GET", "HEAD", "POST"].includes(method);
    const missing = asked.filter((name) => !list("access-control-allow-headers").includes(name));
    if (!answer.ok) refuse(`the preflight was answered ${answer.status}`);
    if (!simple && !list("access-control-allow-methods").includes(method.toLowerCase())) refuse(`${method} is not allowed`);
    if (missing.length) refuse(`headers ${missing} are not allowed`);
  }

  #checkOrigin(answer, withCookies) {
    if (answer.headers.get("access-control-allow-origin") !== this.origin) refuse(`${this.origin} may not read the answer`);
    if (withCookies && answer.headers.get("access-control-allow-credentials") !== "true") refuse("no credentials allowed");
  }

  /** The answer with the headers that a page of another origin sees. */
  #admit(answer, withCookies) {
    this.#checkOrigin(answer, withCookies);
    const exposed = (answer.headers.get("access-control-expose-headers") ?? "").toLowerCase().split(",").map((name) => name.trim());
    const headers = [...answer.headers].filter(([name]) => READABLE.includes(name) || exposed.includes(name));
    return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
  }
}

function refuse(why) {
  throw new TypeError(`Failed to fetch: ${why}`);
}
