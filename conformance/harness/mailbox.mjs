// An SMTP server that keeps what it is given; tests wait for the mail to an address.
import { SMTPServer } from "smtp-server";

const ARRIVES_WITHIN_MS = 10_000;

function quotedPrintable(text) {
  const bytes = text.replace(/=\r?\n/g, "").replace(/=([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}

/** The readable text of a message: all parts, decoded, one after the other. */
function readable(message) {
  const end = message.indexOf("\r\n\r\n");
  const head = message.slice(0, end).replace(/\r\n[ \t]+/g, " ");
  const body = message.slice(end + 4);
  const field = (name) => new RegExp(`^${name}:\\s*(.*)$`, "im").exec(head)?.[1]?.trim() ?? "";
  const boundary = /boundary="?([^";]+)"?/i.exec(field("content-type"))?.[1];
  if (boundary) {
    const parts = body.split(`--${boundary}`).slice(1, -1);
    return parts.map((part) => readable(part.replace(/^\r\n/, ""))).join("\n");
  }
  switch (field("content-transfer-encoding").toLowerCase()) {
    case "base64":
      return Buffer.from(body, "base64").toString("utf8");
    case "quoted-printable":
      return quotedPrintable(body);
    default:
      return body;
  }
}

export async function openMailbox() {
  const mails = [];
  let arrived = () => {};
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ["STARTTLS", "AUTH"],
    logger: false,
    onData(stream, session, done) {
      const chunks = [];
      stream.on("data", (chunk) => chunks.push(chunk));
      stream.on("end", () => {
        const text = readable(Buffer.concat(chunks).toString("utf8"));
        const to = session.envelope.rcptTo.map((recipient) => recipient.address.toLowerCase());
        mails.push({ to, text, link: /https?:\/\/[^\s"'<>]+/.exec(text)?.[0] });
        arrived();
        done();
      });
    },
  });
  server.on("error", () => {});
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

  const take = (to) => {
    const index = mails.findIndex((mail) => mail.to.includes(to));
    return index < 0 ? undefined : mails.splice(index, 1)[0];
  };
  return {
    port: server.server.address().port,
    /** The oldest mail to this address, taken out of the box. */
    async next(to) {
      const deadline = Date.now() + ARRIVES_WITHIN_MS;
      for (;;) {
        const mail = take(to);
        if (mail) return mail;
        const left = deadline - Date.now();
        if (left <= 0) throw new Error(`no mail to ${to} within ${ARRIVES_WITHIN_MS} ms`);
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, left);
          arrived = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    },
    close: () => new Promise((resolve) => server.close(resolve)),
  };
}
