export interface Options {
  /** Where Tollgate's adapter door is: `http://127.0.0.1:8655`. */
  url: string;
  /** One of `[authjs] adapter_secrets`. */
  secret: string;
  /** Milliseconds for an answer in all. */
  timeout?: number;
}

/** Tollgate did not do what it was asked to. Auth.js answers `error=Configuration`, and nobody is signed in. */
export class AdapterUnavailable extends Error {
  override readonly name = "AdapterUnavailable";
  constructor(
    message: string,
    readonly status: number | null = null,
    readonly code: string | null = null,
  ) {
    super(message);
  }
}

type Body = Record<string, unknown>;

/** One way to ask: within the time, never twice (a lost answer may have used a token up), nothing kept. */
export class Connection {
  readonly #base: string;
  readonly #secret: string;
  readonly #timeout: number;

  constructor({ url, secret, timeout = 5_000 }: Options) {
    if (!/^[\x21-\x7e]+$/.test(secret)) throw new TypeError("`secret` must be one of Tollgate's `[authjs] adapter_secrets`");
    this.#base = `${new URL(url).href.replace(/\/$/, "")}/api/internal/auth`;
    this.#secret = secret;
    this.#timeout = timeout;
  }

  /** What is there; null only where Tollgate itself says that there is nothing. */
  async find<T = Body>(method: string, path: string, body?: object): Promise<T | null> {
    const { status, said } = await this.#ask(method, path, body);
    if (status === 404 && isObject(said) && said["error_code"] === "not_found") return null;
    return this.#good<T>(method, path, status, said);
  }

  /** What has to be there. */
  async must<T = Body>(method: string, path: string, body?: object): Promise<T> {
    const { status, said } = await this.#ask(method, path, body);
    return this.#good<T>(method, path, status, said);
  }

  #good<T>(method: string, path: string, status: number, said: unknown): T {
    if ((status === 200 || status === 201) && typeof said === "object" && said !== null) return said as T;
    const code = isObject(said) && typeof said["error_code"] === "string" ? said["error_code"] : null;
    const what = `${method} ${path.split("?")[0] ?? ""}`;
    const why = code === "invalid_adapter_secret" ? "the adapter's secret is wrong: it must be one of `[authjs] adapter_secrets`" : (code ?? "no answer of Tollgate's");
    throw new AdapterUnavailable(`Tollgate refused ${what} with ${status}: ${why}`, status, code);
  }

  async #ask(method: string, path: string, body?: object): Promise<{ status: number; said: unknown }> {
    const headers: Record<string, string> = { "x-adapter-secret": this.#secret };
    const request: RequestInit = { method, headers, cache: "no-store", redirect: "error", signal: AbortSignal.timeout(this.#timeout) };
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      request.body = JSON.stringify(body);
    }
    try {
      const answer = await fetch(`${this.#base}${path}`, request);
      const text = await answer.text();
      return { status: answer.status, said: text === "" ? null : parsed(text) };
    } catch (error) {
      // Never the message: it may hold what was sent.
      const cause = error instanceof Error && error.cause instanceof Error && "code" in error.cause ? String(error.cause.code) : null;
      throw new AdapterUnavailable(`Tollgate gave no answer: ${cause ?? (error instanceof Error ? error.name : "unknown")}`);
    }
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const isObject = (value: unknown): value is Body => typeof value === "object" && value !== null && !Array.isArray(value);
