/** An event of Tollgate's, as docs/reference/events.md lists them. */
export interface Event {
  /** The same at each try: what was seen is not done twice. */
  id: string;
  type: string;
  timestamp: Date;
  data: Record<string, unknown>;
}

export class WebhookRefused extends Error {
  override readonly name = "WebhookRefused";
}

const TOLERANCE_MS = 300_000;

/**
 * Judges a delivery by its headers and the body as it came (not parsed and written again). `secrets` are the
 * `whsec_…` of the endpoint; several while one is being replaced.
 */
export async function verifyWebhook(
  secrets: string | readonly string[],
  headers: Headers | Record<string, string | string[] | undefined>,
  body: string | Uint8Array,
  now: Date = new Date(),
): Promise<Event> {
  const read = (name: string): string => {
    const value = headers instanceof Headers ? headers.get(name) : headers[name];
    if (typeof value !== "string" || value === "") throw new WebhookRefused(`the header ${name} is missing`);
    return value;
  };
  const [id, at, signatures] = [read("webhook-id"), read("webhook-timestamp"), read("webhook-signature")];
  if (!/^\d{1,12}$/.test(at) || Math.abs(now.getTime() - Number(at) * 1000) > TOLERANCE_MS) {
    throw new WebhookRefused("the time of the delivery is more than five minutes off");
  }
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const head = new TextEncoder().encode(`${id}.${at}.`);
  const signed = new Uint8Array(head.length + bytes.length);
  signed.set(head);
  signed.set(bytes, head.length);
  const keys = (typeof secrets === "string" ? [secrets] : secrets).map(key);
  if (keys.length === 0) throw new WebhookRefused("no secret is configured");
  if (!(await isSigned(keys, signatures, signed))) throw new WebhookRefused("no signature is right");
  return event(id, bytes);
}

function key(secret: string): Uint8Array {
  const [, text] = /^whsec_([A-Za-z0-9+/]{22,}={0,2})$/.exec(secret) ?? [];
  if (text === undefined) throw new WebhookRefused("a secret is not one of Tollgate's: it begins with whsec_");
  return decoded(text);
}

async function isSigned(keys: readonly Uint8Array[], signatures: string, signed: Uint8Array): Promise<boolean> {
  const given = signatures
    .split(" ")
    .slice(0, 16)
    .flatMap((text) => (/^v1,[A-Za-z0-9+/]{43}=$/.test(text) ? [decoded(text.slice(3))] : []));
  for (const bytes of keys) {
    const hmac = await crypto.subtle.importKey("raw", bytes as BufferSource, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    for (const signature of given) {
      if (await crypto.subtle.verify("HMAC", hmac, signature as BufferSource, signed as BufferSource)) return true;
    }
  }
  return false;
}

function event(id: string, bytes: Uint8Array): Event {
  const { type, timestamp, data } = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  const at = new Date(String(timestamp));
  if (typeof type !== "string" || Number.isNaN(at.getTime()) || typeof data !== "object" || data === null) {
    throw new WebhookRefused("the body is no event");
  }
  return { id, type, timestamp: at, data: data as Record<string, unknown> };
}

const decoded = (text: string): Uint8Array => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
