/** A refusal: what the browser may be told, flat, as Tollgate's other packages say it. */
export class Refusal extends Error {
  override readonly name: string = "Refusal";
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** What Tollgate said beside code and message: `balance`, `required`, `buy_url`, `resets_at` … */
    readonly more: Readonly<Record<string, unknown>> = {},
    readonly retryAfter: string | null = null,
  ) {
    super(message);
  }

  /** `Set-Cookie` lines that the browser has to get although it was refused. */
  cookies: readonly string[] = [];

  body(): Record<string, unknown> {
    return { error_code: this.code, message: this.message, detail: null, ...this.more };
  }

  headers(): Headers {
    const headers = new Headers({ "content-type": "application/json", "cache-control": "no-store" });
    if (this.retryAfter !== null) headers.set("retry-after", this.retryAfter);
    for (const line of this.cookies) headers.append("set-cookie", line);
    return headers;
  }

  /** For Next.js and whatever else answers with a `Response`. */
  toResponse(): Response {
    return new Response(JSON.stringify(this.body()), { status: this.status, headers: this.headers() });
  }
}

export class Unauthenticated extends Refusal {
  override readonly name = "Unauthenticated";
}

export class InsufficientCredits extends Refusal {
  override readonly name = "InsufficientCredits";
  get balance(): number | null {
    return number(this.more["balance"]);
  }
  get required(): number | null {
    return number(this.more["required"]);
  }
  get buyUrl(): string | null {
    const url = this.more["buy_url"];
    return typeof url === "string" ? url : null;
  }
}

export class Forbidden extends Refusal {
  override readonly name = "Forbidden";
}

export class LimitReached extends Refusal {
  override readonly name = "LimitReached";
}

/** Tollgate gave no clear answer. Never to be taken for "signed out". */
export class Unavailable extends Refusal {
  override readonly name = "Unavailable";
  /** `why` is for the log; the browser is not told. */
  constructor(readonly why: string, retryAfter: string | null = "1") {
    super(503, "unavailable", "The service cannot tell right now who you are. Try again in a moment.", {}, retryAfter);
  }
}

/** Something to mend in the app or its settings: a wrong service key, a request that makes no sense. Nothing for browsers. */
export class Misuse extends Error {
  override readonly name = "Misuse";
  constructor(
    message: string,
    readonly code: string,
    readonly status: number,
  ) {
    super(message);
  }
}

const number = (value: unknown): number | null => (typeof value === "number" ? value : null);

const KINDS: Readonly<Record<number, typeof Refusal>> = {
  401: Unauthenticated,
  402: InsufficientCredits,
  403: Forbidden,
  429: LimitReached,
};

/** What a status and a body of Tollgate's mean. A status without our own code is no answer of ours. */
export function refusal(status: number, body: unknown, retryAfter: string | null): Error {
  const said = isObject(body) ? body : {};
  const code = said["error_code"];
  if (typeof code !== "string") return new Unavailable(`status ${status} without a code of Tollgate's`, retryAfter);
  const message = typeof said["message"] === "string" ? said["message"] : code;
  if (status >= 500) return new Unavailable(`status ${status}, ${code}`, retryAfter ?? "1");
  if (code === "invalid_service_key") {
    return new Misuse("Tollgate refuses the service key: make one with `tollgate key create`, and check its scopes", code, status);
  }
  const { error_code: _code, message: _message, detail: _detail, ...more } = said;
  const Kind = KINDS[status];
  if (Kind) return new Kind(status, code, message, more, retryAfter);
  return status === 409 || status === 404
    ? new Refusal(status, code, message, more, retryAfter)
    : new Misuse(`Tollgate refuses the request (${code}): ${message}`, code, status);
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
