// What people hold in their hands: an app that shows codes (RFC 6238), and an authenticator that keeps passkeys, in the
// place where scripts of a page find the browser's.
import { createHash, createHmac, generateKeyPairSync, randomBytes, sign } from "node:crypto";

const PERIOD_MS = 30_000;

/** What an app that was shown this picture shows, `steps` of thirty seconds from now. */
export function codeOf(uri, steps = 0) {
  const key = base32(new URL(uri).searchParams.get("secret"));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / PERIOD_MS) + steps));
  const mac = createHmac("sha1", key).update(step).digest();
  const number = mac.readUInt32BE(mac.at(-1) & 15) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}

function base32(letters) {
  const bytes = [];
  let [buffer, bits] = [0, 0];
  for (const letter of letters) {
    buffer = (buffer << 5) | "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(letter);
    bits += 5;
    if (bits >= 8) bytes.push((buffer >> (bits -= 8)) & 255);
    buffer &= (1 << bits) - 1;
  }
  return Buffer.from(bytes);
}

const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
const uint = (length, number) => {
  const bytes = Buffer.alloc(length);
  bytes.writeUIntBE(number, 0, length);
  return bytes;
};

/** CBOR (RFC 8949) of the few kinds of values that authenticators write; a map is an array of pairs. */
function cbor(value) {
  const head = (kind, number) => {
    if (number < 24) return Buffer.from([(kind << 5) | number]);
    return number < 256 ? Buffer.from([(kind << 5) | 24, number]) : Buffer.concat([Buffer.from([(kind << 5) | 25]), uint(2, number)]);
  };
  if (Number.isInteger(value)) return value < 0 ? head(1, -1 - value) : head(0, value);
  if (typeof value === "string") return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (Buffer.isBuffer(value)) return Buffer.concat([head(2, value.length), value]);
  return Buffer.concat([head(5, value.length), ...value.flat().map(cbor)]);
}

const PRESENT_AND_VERIFIED = 0b101;
const HAS_KEY = 0b100_0000;

/** An authenticator with keys of Ed25519, on a page of this origin. */
export class Authenticator {
  #keys = [];

  constructor(origin) {
    this.origin = origin;
  }

  /** Runs `work` where `navigator.credentials` is this authenticator. */
  async during(work) {
    const names = ["navigator", "PublicKeyCredential"];
    const before = names.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));
    const credentials = { create: async (asked) => this.#create(asked.publicKey), get: async (asked) => this.#get(asked.publicKey) };
    Object.defineProperty(globalThis, "navigator", { configurable: true, value: { credentials } });
    Object.defineProperty(globalThis, "PublicKeyCredential", { configurable: true, value: class {} });
    try {
      return await work();
    } finally {
      names.forEach((name, index) => {
        delete globalThis[name];
        if (before[index]) Object.defineProperty(globalThis, name, before[index]);
      });
    }
  }

  #create({ rp, challenge }) {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    const key = { id: randomBytes(24), privateKey, count: 0, site: rp.id };
    this.#keys.push(key);
    const x = Buffer.from(publicKey.export({ format: "jwk" }).x, "base64url");
    const cose = cbor([[1, 1], [3, -8], [-1, 6], [-2, x]]);
    const attested = Buffer.concat([Buffer.alloc(16), uint(2, key.id.length), key.id, cose]);
    const authData = this.#said(key, PRESENT_AND_VERIFIED | HAS_KEY, attested);
    return credential(key, {
      clientDataJSON: this.#page("webauthn.create", challenge),
      attestationObject: cbor([["fmt", "none"], ["attStmt", []], ["authData", authData]]),
      getTransports: () => ["internal", "hybrid"],
    });
  }

  #get({ challenge, rpId, allowCredentials = [] }) {
    const allowed = allowCredentials.map(({ id }) => Buffer.from(id).toString("hex"));
    const key = this.#keys.find(({ id, site }) => site === rpId && (allowed.length === 0 || allowed.includes(id.toString("hex"))));
    if (!key) throw new DOMException("There is no key for this page.", "NotAllowedError");
    key.count += 1;
    const clientDataJSON = this.#page("webauthn.get", challenge);
    const authenticatorData = this.#said(key, PRESENT_AND_VERIFIED);
    const signature = sign(null, Buffer.concat([authenticatorData, sha256(clientDataJSON)]), key.privateKey);
    return credential(key, { clientDataJSON, authenticatorData, signature });
  }

  #page(type, challenge) {
    return Buffer.from(JSON.stringify({ type, challenge: Buffer.from(challenge).toString("base64url"), origin: this.origin }));
  }

  #said(key, flags, attested = Buffer.alloc(0)) {
    return Buffer.concat([sha256(key.site), uint(1, flags), uint(4, key.count), attested]);
  }
}

/** As browsers hand it to scripts: bytes are ArrayBuffers. */
function credential({ id }, response) {
  const bytes = (value) => (Buffer.isBuffer(value) ? Uint8Array.from(value).buffer : value);
  const members = Object.entries(response).map(([name, value]) => [name, bytes(value)]);
  return {
    id: id.toString("base64url"),
    rawId: bytes(id),
    type: "public-key",
    response: Object.fromEntries(members),
    getClientExtensionResults: () => ({}),
  };
}
