/** What `getToken` of `next-auth/jwt` is, as far as it is used here: v4's and v5's. */
export type GetToken = (options: any) => Promise<unknown>;

export interface Forwarding {
  /** `getToken` of your `next-auth/jwt`. */
  getToken: GetToken;
  /** Your backend: `http://127.0.0.1:8000`. */
  backend: string;
  /** `AUTH_SECRET`, if your version of `getToken` asks for it. */
  secret?: string;
  /** A cookie that was renamed. */
  cookieName?: string;
  /** Whether the cookie has the `__Secure-` prefix; by default as the request's address says. */
  secureCookie?: boolean;
  /** Milliseconds for the backend's answer in all. */
  timeout?: number;
  /** Told why a backend gave no answer; `console.error` by default. */
  log?: (why: string) => void;
}

const KEPT = ["accept", "accept-language", "content-type", "idempotency-key"];
const DROPPED = ["connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding", "set-cookie"];

/**
 * A route handler of Next.js that passes requests on to a backend with the session's token as it is, undecoded, so that
 * the cookie stays out of reach of scripts: `export const { GET, POST } = forwarding({ getToken, backend })` in
 * `app/api/backend/[...path]/route.ts`.
 */
export function forwarding(options: Forwarding): Record<"GET" | "POST" | "PUT" | "PATCH" | "DELETE", Handler> {
  const base = new URL(options.backend);
  const handle: Handler = async (request, context) => {
    const { path = [] } = (await context?.params) ?? {};
    const to = target(base, typeof path === "string" ? [path] : path, new URL(request.url).search);
    if (to === null) return refused(404, "not_found", "There is no such path.");
    const token = await rawToken(request, options);
    if (token === null) return refused(401, "unauthenticated", "Sign in first.");
    const headers = new Headers({ authorization: `Bearer ${token}` });
    for (const name of KEPT) {
      const value = request.headers.get(name);
      if (value !== null) headers.set(name, value);
    }
    const bodyless = request.method === "GET" || request.method === "HEAD";
    const passed = { method: request.method, headers, redirect: "manual", cache: "no-store", signal: AbortSignal.timeout(options.timeout ?? 30_000) } as const;
    try {
      const answer = await fetch(to, bodyless ? passed : { ...passed, body: await request.arrayBuffer() });
      const shown = new Headers([...answer.headers].filter(([name]) => !DROPPED.includes(name)));
      return new Response(answer.body, { status: answer.status, headers: shown });
    } catch (error) {
      const { log = (why: string) => console.error(why) } = options;
      // Never the message: it may hold what was sent.
      log(`The backend gave no answer: ${error instanceof Error ? error.name : "unknown"}`);
      return refused(503, "unavailable", "The service does not answer. Try again in a moment.");
    }
  };
  return { GET: handle, POST: handle, PUT: handle, PATCH: handle, DELETE: handle };
}

export type Handler = (request: Request, context?: { params?: Promise<{ path?: string | string[] }> | { path?: string | string[] } }) => Promise<Response>;

/** The session's token as it stands in the cookie, or null. It is not verified: that is the backend's part. */
export async function rawToken(request: Request, options: Omit<Forwarding, "backend" | "timeout" | "log">): Promise<string | null> {
  const { getToken, secret, cookieName } = options;
  // Version 5 takes "not secure" for granted, and finds nothing behind https.
  const secureCookie = options.secureCookie ?? isHttps(request);
  const asked = { req: request, raw: true, secureCookie, ...(secret === undefined ? {} : { secret }), ...(cookieName === undefined ? {} : { cookieName, salt: cookieName }) };
  const token = await getToken(asked);
  // An object here is a token that was decoded: sent as text it would be "[object Object]".
  return typeof token === "string" && /^[\w-]+\.[\w-]*\.[\w.-]+$/.test(token) ? token : null;
}

function isHttps(request: Request): boolean {
  const forwarded = request.headers.get("x-forwarded-proto")?.split(",")[0]?.trim();
  return (forwarded ?? new URL(request.url).protocol.replace(":", "")) === "https";
}

/** Below the backend's own path, whatever the segments say. */
function target(base: URL, path: readonly string[], search: string): URL | null {
  if (path.some((part) => part === "" || part === "." || part === ".." || /[/\\]/.test(part))) return null;
  const to = new URL(base);
  to.pathname = [base.pathname.replace(/\/$/, ""), ...path.map(encodeURIComponent)].join("/");
  to.search = search;
  return to.origin === base.origin ? to : null;
}

const refused = (status: number, code: string, message: string): Response =>
  Response.json({ error_code: code, message, detail: null }, { status, headers: { "cache-control": "no-store" } });
