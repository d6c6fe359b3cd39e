// Builds the sample front end in `app/` and serves it from an origin of its own.
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const entry = fileURLToPath(new URL("../app/app.jsx", import.meta.url));

/** The bundle, made once. */
let bundle;
async function script() {
  bundle ??= build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"production"' },
    logLevel: "silent",
  });
  return (await bundle).outputFiles[0].text;
}

/** `{ origin, close() }` of the app; it talks to the server that `serverURL()` names when a page is asked for. */
export async function serveReactApp(serverURL) {
  const code = await script();
  const page = () => `<!doctype html><html lang="en" data-server="${serverURL()}"><meta charset="utf-8"><title>Sample</title><main></main><script type="module" src="/app.js"></script></html>`;
  const server = createServer((request, response) => {
    const [type, body] = request.url === "/app.js" ? ["text/javascript", code] : ["text/html", page()];
    response.writeHead(200, { "content-type": `${type}; charset=utf-8` }).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () =>
    new Promise((resolve) => {
      server.closeAllConnections();
      server.close(resolve);
    });
  // By name: passkeys belong to `localhost`, not to an address.
  return { origin: `http://localhost:${server.address().port}`, close };
}
