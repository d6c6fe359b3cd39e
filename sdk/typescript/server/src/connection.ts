import { Misuse, Unavailable } from "./errors.js";

export interface Options {
  /** Where Tollgate is: `http://127.0.0.1:8655`. */
  url: string;
  /** A service key, `tg_sk_…`. */
  key: string;
  /** Milliseconds for an answer in all. */
  timeout?: number;
}

export interface Said {
  status: number;
  body: unknown;
  headers: Headers;
}

const MOST_BYTES = 1_048_576;
/** No connection came about: the request was not seen by anybody. */
const NOT_CONNECTED = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "UND_ERR_CONNECT_TIMEOUT"]);

/** One way to ask: within the time, once more only when no connection came about, without redirects, and nothing kept. */
export class Connection {
  readonly #base: URL;
  readonly #key: string;
  readonly #timeout: number;

  constructor({ url, key, timeout = 2_000 }: Options) {
    try {
      this.#base = new URL(url);
    } catch {
      throw new Misuse("`url` must be the address of Tollgate, such as http://127.0.0.1:8655", "invalid_url", 0);
    }
    if (!/^[\x21-\x7e]+$/.test(key)) {
      throw new Misuse("`key` must be a service key: make one with `tollgate key create NAME`", "invalid_key", 0);
    }
    this.#key = key;
    this.#timeout = timeout;
  }

  /** As the app itself, with the service key. */
  asApp(method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<Said> {
    const own: Record<string, string> = { ...headers, authorization: `Bearer ${this.#key}` };
    if (body !== undefined) own["content-type"] = "application/json";
    return this.ask(method, path, own, body);
  }

  async ask(method: string, path: string, headers: Record<string, string>, body?: object): Promise<Said> {
    const request: RequestInit = { method, headers, redirect: "manual", signal: AbortSignal.timeout(this.#timeout) };
    if (body !== undefined) request.body = JSON.stringify(body);
    const to = new URL(path, this.#base);
    try {
      const answer = await fetch(to, request).catch((error: unknown) => {
        if (!NOT_CONNECTED.has(reason(error))) throw error;
        return fetch(to, request);
      });
      return { status: answer.status, headers: answer.headers, body: await json(answer) };
    } catch (error) {
      throw error instanceof Unavailable ? error : new Unavailable(`no answer: ${reason(error)}`);
    }
  }

  toJSON(): object {
    return { url: this.#base.origin };
  }
}

/** Never the message: it may hold what was sent. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  const cause = error.cause;
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (typeof code === "string") return code;
  // Several addresses were tried.
  if (cause instanceof AggregateError) return reason(Object.assign(new Error(), { cause: cause.errors[0] as unknown }));
  return error.name;
}

async function json(answer: Response): Promise<unknown> {
  const reader = answer.body?.getReader();
  const text = new TextDecoder("utf-8", { fatal: true });
  let [written, length] = ["", 0];
  try {
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      length += part.value.length;
      if (length > MOST_BYTES) throw new Unavailable("an answer of more than a mebibyte");
      written += text.decode(part.value, { stream: true });
    }
    return JSON.parse(written + text.decode()) as unknown;
  } catch (error) {
    if (error instanceof Unavailable) throw error;
    // A time that ran out or a connection that broke is told by whoever asked.
    if (!(error instanceof SyntaxError) && !(error instanceof TypeError && error.cause === undefined)) throw error;
    throw new Unavailable(`status ${answer.status} with a body that is no JSON`);
  } finally {
    reader?.cancel().catch(() => undefined);
  }
}
