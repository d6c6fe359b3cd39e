// A real OpenID Connect provider (npm `oidc-provider`) as a program of its own. Nobody clicks: the `login_hint` is the
// person. `unproven+…` has an address that was not verified, and `refuses+…` does not agree.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const { port, clientId, clientSecret, redirectURIs, afterSigningOut } = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: clientId,
      client_secret: clientSecret,
      redirect_uris: redirectURIs,
      post_logout_redirect_uris: afterSigningOut,
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      // Unlike most providers it takes the secret in the header only.
      token_endpoint_auth_method: "client_secret_basic",
    },
  ],
  clientAuthMethods: ["client_secret_basic"],
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: "one", use: "sig", alg: "RS256" }] },
  cookies: { keys: ["conformance"] },
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "picture"] },
  // As the standard says: the address is told by the user info endpoint, not in the token.
  conformIdTokenClaims: true,
  features: { devInteractions: { enabled: false } },
  pkce: { required: () => true },
  interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: "Real Person", picture: "https://images.example.test/p.png", email: id, email_verified: !id.startsWith("unproven+") }),
  }),
  issueRefreshToken: async (_context, client, code) => client.grantTypeAllowed("refresh_token") && code.scopes.has("offline_access"),
  rotateRefreshToken: () => true,
});

const callback = provider.callback();
const server = createServer((request, response) => {
  const path = new URL(request.url, issuer).pathname;
  if (!path.startsWith("/interaction/")) return callback(request, response);
  interact(request, response).catch((error) => {
    response.writeHead(500);
    response.end(String(error));
  });
});
server.listen(port, "127.0.0.1", () => process.stdout.write("ready\n"));
// Ends with whoever started it.
process.stdin.on("end", () => process.exit(0)).resume();

async function interact(request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  const account = params.login_hint;
  const finish = (result, merge = false) => provider.interactionFinished(request, response, result, { mergeWithLastSubmission: merge });
  if (account.startsWith("refuses+")) return finish({ error: "access_denied", error_description: "the person refused" });
  if (prompt.name === "login") return finish({ login: { accountId: account } });
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return finish({ consent: { grantId: await grant.save() } }, true);
}
